"""CLIP gives what its peer gives, and its weights come back as they were."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from suite.evaluation.contrast import unit
from suite.models import clip
from suite.tree import paths
from suite.weights import pretrained
from suite.weights.imports import pattern
from tests.parity import golden, peers_clip

LIVE = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("source", ["stored", pytest.param("live", marks=LIVE)])
def test_vectors_logits_and_gradients_are_the_peers(source, tmp_path):
    case = golden.load("clip") if source == "stored" else peers_clip.CASES["clip"]()
    config, model = pretrained.load(golden.folder(case, tmp_path / "clip"))
    assert isinstance(config, clip.Config) and config.image_heads == 2 and config.text_hidden == 20
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    given = {name: jnp.asarray(value) for name, value in case.inputs.items()}

    def answers(params):
        model = nnx.merge(graph, params, rest)
        image = unit(model.heads.image(model.image(given["images"])))
        text = unit(model.heads.text(model.text(given["tokens"], given["mask"])))
        logits = model.heads.sharpness() * image @ text.T
        return jnp.square(logits).sum(), {"image": image, "text": text, "logits": logits}

    grads, outputs = jax.jit(jax.grad(answers, has_aux=True))(params)
    for name, expected in case.outputs.items():
        np.testing.assert_allclose(outputs[name], expected, atol=2e-5, rtol=2e-5, err_msg=name)
    ours = paths(nnx.to_pure_dict(grads))
    for name, expected in case.grads.items():
        rule, match = next((rule, found) for rule in clip.IMPORTS["clip"].rules if (found := _match(rule, name)))
        (mine,) = rule.transform.write([np.asarray(ours[rule.paths[0].format(**match.groupdict())])])
        np.testing.assert_allclose(mine, expected, atol=2e-4 * abs(expected).max(), err_msg=name)


def _match(rule, name):
    return pattern(rule.sources[0]).fullmatch(name)


def test_weights_are_published_as_they_were_read(tmp_path):
    case = golden.load("clip")
    folder = golden.folder(case, tmp_path / "clip")
    config, model = pretrained.load(folder)
    params = nnx.state(model, nnx.Param)
    written = clip._publish(config)
    assert clip._read(json.loads(json.dumps(written))) == config
    table, tensors = clip.IMPORTS["clip"], load_file(folder / "model.safetensors")
    ours = paths(nnx.to_pure_dict(params))
    for name, tensor in tensors.items():
        rule, match = next((rule, found) for rule in table.rules if (found := _match(rule, name)))
        (mine,) = rule.transform.write([np.asarray(ours[rule.paths[0].format(**match.groupdict())])])
        np.testing.assert_array_equal(mine, tensor)
