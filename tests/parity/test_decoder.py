"""GPT-2 and Llama against transformers, from the stored answers and live: logits, gradients, continuations."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from suite.decoding.generation import Decoding, generate
from suite.errors import InputError
from suite.weights import pretrained
from tests.parity import golden

PAD = 3
NAMES = ("gpt2", "llama", "llama_tied")
COUNTS = {
    "gpt2": (dict(vocab_size=50257, n_embd=768, n_layer=12, n_head=12, n_positions=1024), 124_439_808),
    "llama": (
        dict(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32),
        6_738_415_616,
    ),
}
"""The published sizes of GPT-2 (small) and Llama 2 7B."""


@pytest.fixture(params=NAMES)
def stored(request):
    return golden.load(request.param)


@pytest.fixture(params=NAMES)
def live(request):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return golden.cases()[request.param]()


def loss(params, graph, case):
    logits = nnx.merge(graph, params)(jnp.asarray(case.inputs["tokens"]), jnp.asarray(case.inputs["mask"]))
    logs = jax.nn.log_softmax(logits[:, :-1])
    picked = jnp.take_along_axis(logs, jnp.asarray(case.inputs["tokens"])[:, 1:, None], 2)[..., 0]
    mask = case.inputs["mask"][:, 1:]
    return -(picked * mask).sum() / mask.sum()


def check(case, path):
    config, model = pretrained.load(golden.folder(case, path))
    mask = case.inputs["mask"]
    logits = model(jnp.asarray(case.inputs["tokens"]), jnp.asarray(mask))
    assert np.abs(np.asarray(logits) - case.outputs["logits"])[mask].max() <= 2e-5
    graph, params = nnx.split(model)
    grads = jax.jit(jax.grad(lambda params: loss(params, graph, case)))(params)
    # Written back as the original library names and lays them out, gradients compare name by name.
    pretrained.save(config, nnx.to_pure_dict(grads), {}, path / "grads")
    theirs = load_file(path / "grads" / "model.safetensors")
    for name, expected in case.grads.items():
        error = np.linalg.norm(theirs[name] - expected) / np.linalg.norm(expected)
        assert error <= 1e-4, (name, error)


def continuations(case, path):
    """The greedy continuation and that of the beam search, as peers_decoder.py asks for them."""
    _, model = pretrained.load(golden.folder(case, path))
    tokens = jnp.asarray(case.inputs["tokens"][:, :5])
    mask = jnp.arange(5) >= jnp.array([0, 1, 2])[:, None]
    count = case.outputs["greedy"].shape[1]
    kinds = {
        "greedy": Decoding(tokens=count, pad=PAD),
        "beams": Decoding(tokens=count, beams=4, end=7, pad=PAD, length_penalty=0.6),
    }
    for kind, decoding in kinds.items():
        made = jax.jit(lambda m, d=decoding: generate(model, model.cache(3, 5 + count), tokens, m, d))(mask)
        expected = case.outputs[kind]
        np.testing.assert_array_equal(np.asarray(made.tokens)[:, : expected.shape[1]], expected, err_msg=kind)
        assert (np.asarray(made.tokens)[:, expected.shape[1] :] == PAD).all()


def test_logits_and_gradients(stored, tmp_path):
    check(stored, tmp_path)


def test_continuations(stored, tmp_path):
    continuations(stored, tmp_path)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_logits_gradients_and_continuations_live(live, tmp_path):
    check(live, tmp_path)
    continuations(live, tmp_path)


def test_round_trip_is_exact(stored, tmp_path):
    config, model = pretrained.load(golden.folder(stored, tmp_path / "in"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    expected = golden.weights(stored.shapes)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], value) for name, value in expected.items())
    again = json.loads((tmp_path / "out" / "config.json").read_text())
    assert pretrained.formats()[again["model_type"]].config(again) == config


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes(name):
    published, count = COUNTS[name]
    config = pretrained.formats()[name].config(published)
    params = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
    ("name", "changes", "where"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"activation_function": "prelu"}, "activation_function"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_parameters.rope_type"),
        ("llama", {"hidden_act": "mish"}, "hidden_act"),
    ],
)
def test_what_the_family_cannot_do_is_refused_by_name(name, changes, where):
    with pytest.raises(InputError, match=rf"config\.json, {where}"):
        pretrained.formats()[name].config({**COUNTS[name][0], **changes})
