"""DETR: what its loss counts, what it leaves out, and where its boxes lie in a letterboxed picture."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import detr, resnet
from suite.nn.boxes import centres

BACKBONE = resnet.resnet18(channels=3, blocks=(1, 1), widths=(4, 8), stem_width=4)
TINY = detr.Config(
    parts={"backbone": BACKBONE},
    outputs=2,
    queries=4,
    layers=1,
    decoder_layers=2,
    width=8,
    heads=2,
    feed_forward=8,
    dropout=0.0,
)
CONTENT = jnp.array([[0.0, 10.0, 40.0, 30.0]] * 3)
BOXES = jnp.array([[[4.0, 12.0, 14.0, 20.0], [20.0, 15.0, 40.0, 30.0], [0.0, 0.0, 0.0, 0.0]]] * 3)
LABELS = jnp.array([[1, 0, -1], [1, 0, -1], [-1, -1, -1]])


@pytest.fixture(scope="module")
def model():
    return jax.jit(lambda: TINY.build(rngs=nnx.Rngs(0)))()


def perfect(scores=9.0):
    """The first two queries answer the boxes of `BOXES` in turn, in both layers; the others answer with nothing."""
    share = (BOXES[:, :2] - jnp.array([0.0, 10, 0, 10])) / jnp.array([40.0, 20, 40, 20])
    boxes = jnp.concatenate([centres(share)[:, ::-1], jnp.full((3, 2, 4), 0.5)], 1)
    logits = scores * jax.nn.one_hot(jnp.array([[0, 1, 2, 2]] * 3), 3)
    logits = logits.at[2].set(scores * jax.nn.one_hot(jnp.array([2, 2, 2, 2]), 3))
    both = {"logits": jnp.stack([logits] * 2, 1), "boxes": jnp.stack([boxes] * 2, 1)}
    return {**both, "content": CONTENT}


def losses(model, predictions, crowd=None, mask=(True, True, True), boxes=BOXES, labels=LABELS):
    crowd = jnp.zeros(labels.shape, bool) if crowd is None else crowd
    return {
        name: np.asarray(values)
        for name, values in model.loss(predictions, boxes, labels, crowd, jnp.array(mask)).items()
    }


def test_perfect_answers_cost_nothing_in_whichever_order(model):
    terms = losses(model, perfect())
    assert all(values.max() < 1e-2 for values in terms.values()), terms
    wrong = perfect()
    wrong["logits"] = wrong["logits"].at[0, 0].set(wrong["logits"][0, 0, ::-1])  # of one layer of the first picture
    assert losses(model, wrong)["class_loss"][0] > 1 > losses(model, wrong)["class_loss"][1]


def test_crowds_and_padding_rows_are_not_answered(model):
    """A picture whose only boxes are crowds is one without boxes."""
    predictions = perfect()
    crowd = jnp.zeros((3, 3), bool).at[0].set(True)
    terms = losses(model, predictions, crowd, (True, False, True))
    assert terms["box_loss"][0] == terms["overlap_loss"][0] == 0 and terms["class_loss"][0] > 1
    assert all(values[1] == 0 for values in terms.values())


def test_detections_lie_in_the_picture_s_part_of_the_canvas(model):
    boxes, scores, labels = (np.asarray(part) for part in model.detections(perfect()))
    np.testing.assert_allclose(boxes[0, :2][np.argsort(labels[0, :2])], BOXES[0, [1, 0]], rtol=1e-5)
    assert (np.diff(scores) <= 0).all() and scores[0, 1] > 0.9 > 0.1 > scores[0, 2]


def test_filling_changes_no_answer(model):
    call = jax.jit(lambda images: {**model(images, content=CONTENT[:1])})
    images = jax.random.normal(jax.random.key(0), (1, 40, 40, 3))
    answers = [call(images.at[:, :10].set(value).at[:, 30:].set(value)) for value in (0.0, 5.0)]
    np.testing.assert_array_equal(answers[0]["logits"], answers[1]["logits"])
    assert answers[0]["logits"].shape == (1, 2, 4, 3)


def test_boxes_beyond_the_queries_are_left_out_those_that_cost_most(model):
    """Places of rows beyond the queries change nothing, and of more boxes than queries the best ones are learnt."""
    places = jnp.pad(BOXES, ((0, 0), (0, 5), (0, 0))), jnp.pad(LABELS, ((0, 0), (0, 5)), constant_values=-1)
    plain, padded = losses(model, perfect()), losses(model, perfect(), boxes=places[0], labels=places[1])
    assert all(plain[name] == pytest.approx(padded[name], abs=1e-6) for name in plain)
    predictions = {name: values[:, :, :2] if name != "content" else values for name, values in perfect().items()}
    far = jnp.broadcast_to(jnp.array([0.0, 10.0, 1.0, 11.0]), (3, 1, 4))
    terms = losses(model, predictions, boxes=jnp.concatenate([far, BOXES], 1), labels=jnp.pad(LABELS, ((0, 0), (1, 0))))
    assert terms["box_loss"][0] < 1e-2


@pytest.mark.parametrize("changes", [{"heads": 3}, {"width": 6, "heads": 2}, {"parts": {"image": BACKBONE}}])
def test_sizes_that_make_no_model_are_refused(changes):
    with pytest.raises(InputError):
        replace(TINY, **changes).build(rngs=nnx.Rngs(0))
