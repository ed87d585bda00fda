"""DETR gives what transformers' gives, its loss included, and its weights come back as they were."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from suite.errors import InputError
from suite.models import detr, resnet
from suite.tree import paths
from suite.weights import pretrained
from tests.parity import golden, peers_detr
from tests.parity.test_vision import LIVE, published_gradients

SOURCES = ["stored", pytest.param("live", marks=LIVE)]


def case(name, source):
    return golden.load(name) if source == "stored" else peers_detr.CASES[name]()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", peers_detr.CASES)
def test_a_detector_agrees_with_its_peer(name, source, tmp_path):
    if source == "live" and name.endswith("timm") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    made = case(name, source)
    _, model = pretrained.load(golden.folder(made, tmp_path / "published"))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    images, content = jnp.asarray(made.inputs["images"]), jnp.asarray(made.inputs["content"])
    boxes, labels = (jnp.asarray(made.inputs[part])[None] for part in ("boxes", "labels"))

    def scalar(params):
        model = nnx.merge(graph, params, rest)
        predictions = model(images, content=content)
        # The peer's loss is of the last layer alone.
        last = {part: value[1:] if part == "content" else value[1:, -1:] for part, value in predictions.items()}
        terms = model.loss(last, boxes, labels, jnp.zeros(labels.shape, bool), jnp.ones(1, bool))
        return sum(term[0] for term in terms.values()), (predictions, terms)

    grads, (predictions, terms) = jax.jit(jax.grad(scalar, has_aux=True))(params)
    for part in ("logits", "boxes"):
        assert np.abs(predictions[part][:, -1] - made.outputs[part]).max() <= 2e-5, part
    weighted = np.array([1, detr.BOX, detr.OVERLAP]) * made.outputs["loss"]
    np.testing.assert_allclose([terms[f"{part}_loss"][0] for part in ("class", "box", "overlap")], weighted, rtol=1e-4)
    table = pretrained.formats()["detr"]
    ours = published_gradients(table, paths(nnx.to_pure_dict(grads)), made.grads)
    assert ours.keys() == made.grads.keys()
    for tensor, expected in made.grads.items():
        assert np.linalg.norm(ours[tensor] - expected) <= 1e-3 * np.linalg.norm(expected), tensor


@pytest.mark.parametrize("name", peers_detr.CASES)
def test_weights_of_a_detector_come_back_as_they_were(name, tmp_path):
    made = golden.load(name)
    config, model = pretrained.load(golden.folder(made, tmp_path / "published"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "again")
    before, after = (load_file(tmp_path / part / "model.safetensors") for part in ("published", "again"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[tensor], after[tensor]) for tensor in before)
    assert pretrained.load(tmp_path / "again")[0] == config


@pytest.mark.parametrize("outputs", [("LABEL_2", "LABEL_0", "LABEL_1"), ("cell", "dog", "cat"), ("cell",)])
def test_classes_of_a_published_detector_are_matched_by_name(outputs, tmp_path):
    """The logit of nothing stays where classes are kept, and is new where they are."""
    made = golden.load("detr")
    folder = golden.folder(made, tmp_path / "published")
    config, model = pretrained.load(folder)
    own = detr.Config(outputs=len(outputs)).adopt(config)
    _, params, rest = nnx.split(own.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
    fresh = {part: np.array(params[part].kernel[...]) for part in ("head", "nothing")}
    filled, _ = pretrained.fill(own, *map(nnx.to_pure_dict, (params, rest)), folder, outputs=outputs)
    published = np.array(model.head.kernel[...]), np.array(model.nothing.kernel[...])
    kept = outputs[0] == "LABEL_2"
    np.testing.assert_array_equal(filled["head"]["kernel"], published[0][:, [2, 0, 1]] if kept else fresh["head"])
    np.testing.assert_array_equal(filled["nothing"]["kernel"], published[1] if kept else fresh["nothing"])
    np.testing.assert_array_equal(filled["queries"]["embedding"], model.queries.embedding[...])


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"dilation": True}, "dilation"),
        ({"position_embedding_type": "learned"}, "position_embedding_type"),
        ({"backbone_config": {"model_type": "swin"}}, '"swin" is not there'),
        ({"decoder_ffn_dim": 8}, "decoder_ffn_dim.*differs"),
        ({"backbone": "resnext50"}, '"resnext50" is not there'),
    ],
)
def test_a_published_detector_of_another_kind_is_refused(stated, message):
    with pytest.raises(InputError, match=message):
        pretrained.formats()["detr"].config({"model_type": "detr", **stated})


def test_full_size_of_a_published_detector():
    """The published model with ResNet-50 and 91 classes; its library holds what norms multiply and add as constants."""
    stated = {"model_type": "detr", "backbone": "resnet50", "num_labels": 91, "use_timm_backbone": True}
    config = pretrained.formats()["detr"].config(stated)
    params = paths(nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)))
    norms = {path for path in params if path.startswith("backbone/") and "/norm/" in path}
    assert sum(leaf.size for path, leaf in params.items() if path not in norms) == 41_524_768


def test_a_backbone_that_timm_has_no_name_for_is_written_by_transformers_names():
    config = detr.Config(parts={"backbone": resnet.resnet18(channels=3, widths=(8, 8, 8, 8), stem_width=64)}, outputs=2)
    with pytest.raises(InputError, match=r"--model\.backbone_names transformers"):
        pretrained.formats()["detr"].publish(config)
    stated = json.loads(
        json.dumps(
            pretrained.formats()["detr"].publish(
                detr.Config(parts=config.parts, outputs=2, backbone_names="transformers")
            )
        )
    )
    assert stated["backbone_config"]["hidden_sizes"] == [8, 8, 8, 8]
