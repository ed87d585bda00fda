"""T5 and Marian against transformers, from the stored answers and live: logits, gradients, greedy and beam search."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from suite.decoding.generation import Decoding, generate, prompt
from suite.errors import InputError
from suite.weights import pretrained
from tests.parity import golden

NAMES = ("t5", "t5_gated", "marian")
END, PAD = 7, 0
T5_SMALL = dict(vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
OPUS_EN_DE = dict(
    vocab_size=58101,
    d_model=512,
    encoder_layers=6,
    decoder_layers=6,
    encoder_attention_heads=8,
    decoder_attention_heads=8,
    encoder_ffn_dim=2048,
    decoder_ffn_dim=2048,
    max_position_embeddings=512,
    decoder_start_token_id=58100,
    scale_embedding=True,
    activation_function="swish",
)


@pytest.fixture(params=NAMES)
def stored(request):
    return golden.load(request.param)


@pytest.fixture(params=NAMES)
def live(request):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return golden.cases()[request.param]()


def check(case, path):
    config, model = pretrained.load(golden.folder(case, path))
    given = {name: jnp.asarray(value) for name, value in case.inputs.items()}
    graph, params = nnx.split(model)

    def loss(params):
        logits = nnx.merge(graph, params)(given["tokens"], given["mask"], given["target"])
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), given["labels"][:, :, None], 2)[..., 0]
        return -(picked * given["labels_mask"]).sum() / given["labels_mask"].sum(), logits

    grads, logits = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert np.abs(np.asarray(logits) - case.outputs["logits"]).max() <= 2e-5
    # Written back as the original library names and lays them out, gradients compare name by name.
    pretrained.save(config, nnx.to_pure_dict(grads), {}, path / "grads")
    theirs = load_file(path / "grads" / "model.safetensors")
    for name, expected in case.grads.items():
        error = np.linalg.norm(theirs[name] - expected) / np.linalg.norm(expected)
        assert error <= 1e-4, (name, error)


def continuations(case, path):
    """What greedy and beam search make of each source, as peers_seq2seq.py asks for them."""
    _, model = pretrained.load(golden.folder(case, path))
    tokens, mask = jnp.asarray(case.inputs["tokens"]), jnp.asarray(case.inputs["mask"])
    count = case.outputs["greedy"].shape[1]
    kinds = {
        "greedy": Decoding(tokens=count, pad=PAD),
        "beams": Decoding(tokens=count, beams=4, end=END, pad=PAD, length_penalty=1.3),
    }
    for kind, decoding in kinds.items():
        start = prompt(3, model.start)
        run = lambda tokens, mask, d=decoding, start=start: generate(
            model, model.cache(tokens, mask, count + 1), start["tokens"], start["mask"], d
        )
        made, expected = np.asarray(jax.jit(run)(tokens, mask).tokens), case.outputs[kind]
        np.testing.assert_array_equal(made[:, : expected.shape[1]], expected, err_msg=kind)
        assert (made[:, expected.shape[1] :] == PAD).all()


def test_logits_and_gradients(stored, tmp_path):
    check(stored, tmp_path)


@pytest.mark.parametrize("head", ["none", "same", "own"])
@pytest.mark.parametrize(
    ("tie", "scale", "scaled"),
    [
        (None, None, True),
        (True, None, True),
        (False, None, False),  # version 1.1, before scale_decoder_outputs was written
        (True, False, False),  # version 1.1 as transformers 5 writes it
        (False, True, True),
        (None, False, False),
    ],
)
def test_t5_ties_its_head_by_the_tensors_and_scales_by_the_config(tie, scale, scaled, head, tmp_path):
    """Logits of transformers 5.23, of which the stored ones are tied and scaled; written again, they are the same."""
    case = golden.load("t5")
    stated = {"tie_word_embeddings": tie, "scale_decoder_outputs": scale}
    plain = {name: value for name, value in case.config.items() if name not in stated}
    folder = golden.folder(case, tmp_path / "in")
    stated = {name: value for name, value in stated.items() if value is not None}
    (folder / "config.json").write_text(json.dumps({**plain, **stated}))
    if head != "none":
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["shared.weight"] * (1 if head == "same" else 3)
        save_file(tensors, folder / "model.safetensors")
    config, model = pretrained.load(folder)
    assert (config.tied, config.scale_output) == (head != "own", scaled)
    given = [jnp.asarray(case.inputs[name]) for name in ("tokens", "mask", "target")]
    logits = model(*given)
    width = plain["d_model"]
    wanted = case.outputs["logits"] * (1 if scaled else width**0.5) * (3 if head == "own" else 1)
    np.testing.assert_allclose(logits, wanted, atol=2e-5 * np.abs(wanted).max())
    _, params, rest = nnx.split(model, nnx.Param, ...)
    pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "out")
    assert pretrained.load(tmp_path / "out")[0] == config


def test_greedy_and_beam_search(stored, tmp_path):
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


def count(name, published):
    config = pretrained.formats()[name].config(published)
    params = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_published_sizes():
    assert count("t5", T5_SMALL) == 60_506_624
    # opus-mt-en-de has 74,410,496: with two tables of 512 sinusoids, which we compute, and without the output bias.
    assert count("marian", OPUS_EN_DE) == 74_410_496 - 2 * 512 * 512 + 58_101


@pytest.mark.parametrize(
    ("name", "changes", "where"),
    [
        ("t5", {"feed_forward_proj": "gated-tanh"}, "feed_forward_proj"),
        ("marian", {"normalize_before": True}, "normalize_before"),
        ("marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ("marian", {"decoder_ffn_dim": 1024}, "decoder_ffn_dim"),
    ],
)
def test_what_the_family_cannot_do_is_refused_by_name(name, changes, where):
    with pytest.raises(InputError, match=rf"config\.json, {where}"):
        pretrained.formats()[name].config({**{"t5": T5_SMALL, "marian": OPUS_EN_DE}[name], **changes})
