"""FCOS: which places learn which box, what a loss is made of, and what is answered."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import dnn, efficientnet, fcos, resnet, vit
from suite.tree import paths

TINY = resnet.Config(channels=3, blocks=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8)
STRIDES = (8, 16)


def config(**changes):
    return fcos.Config(**{"outputs": 2, "parts": {"backbone": TINY}, "strides": STRIDES, "width": 8, **changes})


def grid(height, width):
    """Places (p, 3) of an image on both levels."""
    rows = []
    for stride in STRIDES:
        across, down = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        rows += [((x + 0.5) * stride, (y + 0.5) * stride, stride) for x, y in zip(across.flat, down.flat, strict=True)]
    return jnp.array(rows, jnp.float32)


def assigned(boxes, labels, crowd=None):
    places = grid(256, 256)
    crowd = [False] * len(labels) if crowd is None else crowd
    low, high = fcos._ranges(STRIDES)
    chosen, positive, ignored = fcos._assigned(
        places, jnp.array(boxes, jnp.float32), jnp.array(labels), jnp.array(crowd), low, high
    )
    return np.asarray(places), np.asarray(chosen), np.asarray(positive), np.asarray(ignored)


def test_a_place_learns_the_smallest_box_whose_middle_is_near_on_the_level_of_its_size():
    boxes = [[40.0, 40, 90, 90], [58, 58, 72, 72], [0, 0, 256, 256], [0, 0, 0, 0]]
    places, chosen, positive, ignored = assigned(boxes, [0, 1, 0, -1])
    learnt = {box: places[positive & (chosen == box)] for box in range(4)}
    assert {float(stride) for stride in learnt[0][:, 2]} == {8.0}  # half of 50 pixels is less than eight strides
    assert {float(stride) for stride in learnt[2][:, 2]} == {16.0}
    assert (np.abs(learnt[0][:, :2] - 65) < 12).all() and len(learnt[0]) == 5  # nine, but for those of the smaller box
    np.testing.assert_array_equal(learnt[1][:, :2], [[60, 60], [68, 60], [60, 68], [68, 68]])
    assert not len(learnt[3]) and not ignored.any()


@pytest.mark.parametrize("side", [1, 3, 8, 40, 126, 130, 250])
def test_there_is_no_box_that_no_place_learns(side):
    for left in np.linspace(0, 255 - side, 7):
        _, _, positive, _ = assigned([[left, left / 2, left + side, left / 2 + side]], [0])
        assert positive.any()


def test_places_in_a_crowd_learn_neither_a_box_nor_that_there_is_none():
    places, chosen, positive, ignored = assigned([[64.0, 64, 128, 128], [80, 80, 100, 100]], [0, 1], [True, False])
    inside = ((places[:, :2] > 64) & (places[:, :2] < 128)).all(1)
    np.testing.assert_array_equal(ignored | positive, inside)
    assert positive.any() and (chosen[positive] == 1).all()


def wanted():
    boxes = jnp.array([[[20.0, 30, 60, 70], [100, 40, 118, 60], [0, 0, 0, 0]]])
    return boxes, jnp.array([[0, 1, -1]]), jnp.zeros((1, 3), bool)


def perfect(boxes, labels, crowd):
    """Predictions that say of each place what it has to learn."""
    places = grid(128, 128)
    low, high = fcos._ranges(STRIDES)
    chosen, positive, _ = fcos._assigned(places, boxes[0], labels[0], crowd[0], low, high)
    right = positive[:, None] & (labels[0][chosen][:, None] == jnp.arange(2))
    return {
        "logits": jnp.where(right, 12.0, -12.0)[None],
        "boxes": jnp.where(positive[:, None], boxes[0][chosen], 1.0)[None],
        "quality": jnp.full((1, len(places)), 12.0),
        "places": places[None],
    }


@pytest.fixture(scope="module")
def model():
    return config().build(rngs=nnx.Rngs(0))


def test_what_is_right_costs_nothing_and_is_answered_once(model):
    predictions = perfect(*wanted())
    loss = jax.jit(model.loss)(predictions, *wanted(), jnp.array([True]))
    assert set(loss) == {"class_loss", "box_loss", "quality_loss"}
    assert all(0 <= float(value[0]) < 1e-3 for value in loss.values())
    boxes, scores, labels = jax.jit(model.detections)(predictions)
    count = int((scores[0] > 0.5).sum())
    assert count == 2 and boxes.shape == (1, 100, 4)
    order = np.argsort(labels[0, :count])
    np.testing.assert_allclose(boxes[0, :count][order], wanted()[0][0, :2], rtol=1e-6)
    np.testing.assert_array_equal(np.sort(labels[0, :count]), [0, 1])
    assert (jnp.diff(scores[0]) <= 0).all()


@pytest.mark.parametrize(
    ("changed", "term"),
    [
        ({"logits": lambda x: -x}, "class_loss"),
        ({"boxes": lambda x: x + 10}, "box_loss"),
        ({"quality": lambda x: -x}, "quality_loss"),
    ],
)
def test_each_term_of_the_loss_is_of_one_fault(model, changed, term):
    good = perfect(*wanted())
    bad = {**good, **{name: change(good[name]) for name, change in changed.items()}}
    mask = jnp.array([True])
    before, after = (model.loss(made, *wanted(), mask) for made in (good, bad))
    assert float(after[term][0]) > float(before[term][0]) + 0.1


def test_the_loss_of_an_image_is_the_same_alone_and_in_a_batch_and_that_of_padding_is_nothing(model):
    images = jax.random.normal(jax.random.key(0), (3, 64, 96, 3))
    boxes = jax.random.uniform(jax.random.key(1), (3, 4, 2)) * 40
    boxes = jnp.concatenate([boxes, boxes + 15], -1)
    labels = jnp.array([[0, 1, -1, -1], [1, 1, 0, 1], [-1] * 4])
    crowd, mask = jnp.zeros((3, 4), bool), jnp.array([True, True, False])

    def losses(places):
        predictions = model(images[places], rows=mask[places], rngs=nnx.Rngs(0))
        return model.loss(predictions, boxes[places], labels[places], crowd[places], mask[places])

    together, alone = losses(jnp.arange(3)), losses(jnp.arange(1))
    for name, values in together.items():
        np.testing.assert_allclose(values[0], alone[name][0], rtol=1e-4, atol=1e-5)
        assert values[2] == 0 and np.isfinite(values).all()


def test_statistics_stay_in_training_where_they_are_frozen():
    images, rows = jax.random.normal(jax.random.key(0), (2, 32, 32, 3)), jnp.array([True, True])

    def moved(frozen):
        made = config(frozen_statistics=frozen).build(rngs=nnx.Rngs(0))
        before = paths(nnx.to_pure_dict(nnx.state(made, nnx.BatchStat)))
        made(images, rows=rows, rngs=nnx.Rngs(0))
        after = paths(nnx.to_pure_dict(nnx.state(made, nnx.BatchStat)))
        return [name for name in before if not np.array_equal(before[name], after[name])]

    assert not moved(True) and len(moved(False)) > 4


def test_the_backbone_is_cut_at_the_coarsest_level_also_where_weights_decide_its_sizes():
    made = fcos.Config(parts={"backbone": efficientnet.lite0()}, strides=(8, 16))
    assert made.parts["backbone"].coarsest == 16
    adopted = made.parts["backbone"].adopt(resnet.resnet50(channels=3, outputs=1000))
    again = dataclasses.replace(made, parts={"backbone": adopted})
    assert (again.parts["backbone"].coarsest, again.parts["backbone"].outputs) == (16, 0)
    assert again.layer_of("classes/kernel") == again.depth > again.layer_of("backbone/stem/conv/kernel")


def test_fresh_parameters_say_that_every_class_is_improbable(model):
    np.testing.assert_allclose(jax.nn.sigmoid(model.classes.bias[...]), 0.01, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strides": (8, 32)}, "--model.strides 4 8 16 32"),
        ({"strides": (2, 4)}, "the backbone has 4 8 16 32"),
        ({"strides": ()}, "none; the backbone has"),
        ({"parts": {"backbone": vit.tiny(height=32, width=32)}}, "a ResNet, an EfficientNet-Lite or a ConvNeXt"),
        ({"parts": {"backbone": dnn.Config()}}, "must be of images"),
        ({"parts": {"image": TINY}}, "must be one backbone"),
        ({"width": 12}, "a multiple of 8"),
        ({"overlap": 1.5}, "field model.overlap"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError) as raised:
        config(**changes)
    assert said in str(raised.value)
