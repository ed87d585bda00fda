"""wav2vec 2.0, HuBERT and Whisper against transformers: outputs, gradients, and the files both read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from suite.errors import InputError
from suite.models import wav2vec2, whisper
from suite.tree import paths
from suite.weights import pretrained
from suite.weights.imports import pattern
from tests.parity import golden, peers_audio

SPEECH = [name for name in peers_audio.CASES if not name.startswith("whisper")]
WHISPER = [name for name in peers_audio.CASES if name.startswith("whisper")]
LIVE = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peer's warnings are no faults of ours
SOURCES = ["stored", pytest.param("live", marks=LIVE)]


def case(name, source):
    return golden.load(name) if source == "stored" else golden.cases()[name]()


def differs(a, b):
    return float(np.abs(np.asarray(a) - b).max())


def run(model, *inputs, probe=0.0):
    """Outputs, which of them are real, and the gradient of the sum of probe * outputs, in one compiled call."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def probed(params, *inputs):
        outputs, real = nnx.merge(graph, params, rest)(*inputs)
        return (outputs * probe).sum(), (outputs, real)

    grads, (outputs, real) = jax.jit(jax.grad(probed, has_aux=True))(params, *map(jnp.asarray, inputs))
    return outputs, real, paths(nnx.to_pure_dict(grads))


def compare_gradients(made, ours):
    """Each stored gradient against ours, at the place that the IMPORTS table gives its tensor."""
    table = pretrained.formats()[made.config["model_type"]]
    for name, expected in made.grads.items():
        ((rule, numbers),) = {
            rule.path: (rule, match.groupdict())
            for rule in table.rules
            for prefix in table.prefixes
            if name.startswith(prefix) and (match := pattern(rule.sources[0]).match(name.removeprefix(prefix)))
        }.values()
        (got,) = rule.transform.write([np.asarray(ours[rule.path.format(**numbers)])])
        assert got.shape == expected.shape, name
        assert np.linalg.norm(got - expected) <= 1e-4 * np.linalg.norm(expected), name


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", SPEECH)
def test_speech_models_agree_with_transformers(name, source, tmp_path):
    made = case(name, source)
    folder = golden.folder(made, tmp_path / "published")
    config, model = pretrained.load(folder, padded_statistics=True)
    outputs, real, grads = run(model, made.inputs["waves"], made.inputs["mask"], probe=made.inputs["probe"])
    assert outputs.shape == made.outputs["padded"].shape
    expected = made.outputs["padded"]
    lengths = [config.frames(length) for length in peers_audio.LENGTHS]
    for row, length in enumerate(lengths):
        assert int(real[row].sum()) == length
        assert differs(outputs[row, :length], expected[row, :length]) <= 2e-5
    assert bool(made.grads) == (name not in ("wav2vec2_base", "wav2vec2_pretraining"))
    compare_gradients(made, grads)


@pytest.mark.parametrize("name", ["wav2vec2_base_ctc", "wav2vec2_large_ctc"])
def test_a_padded_recording_gives_what_transformers_gives_it_alone(name, tmp_path):
    made = golden.load(name)
    _, model = pretrained.load(golden.folder(made, tmp_path))
    outputs, real, _ = run(model, made.inputs["waves"], made.inputs["mask"])
    expected = made.outputs["alone"][0]
    assert int(real[1].sum()) == len(expected)
    assert differs(outputs[1, : len(expected)], expected) <= 2e-5


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", WHISPER)
def test_whisper_agrees_with_transformers(name, source, tmp_path):
    made = case(name, source)
    config, model = pretrained.load(golden.folder(made, tmp_path))
    features = made.inputs["features"]
    assert isinstance(config, whisper.Config) and config.pooling == "hidden"
    hidden, real, grads = run(model, features, np.ones(features.shape[:2], bool), probe=made.inputs["probe"])
    assert real.all() and differs(hidden, made.outputs["hidden"]) <= 2e-5
    assert made.grads
    compare_gradients(made, grads)


@pytest.mark.parametrize("name", list(peers_audio.CASES))
def test_weights_come_back_bit_for_bit(name, tmp_path):
    made = golden.load(name)
    config, model = pretrained.load(golden.folder(made, tmp_path / "published"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    kind = made.config["model_type"]
    saved = pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "ours", format=kind)
    assert saved == kind
    before, after = golden.weights(made.shapes), load_file(tmp_path / "ours" / "model.safetensors")
    body = {
        other: prefix + other for other in after for prefix in ("", "model.", "wav2vec2.") if prefix + other in before
    }
    assert body.keys() == after.keys()
    left = before.keys() - set(body.values())
    assert all(part.startswith(("quantizer", "project_", "decoder", "model.decoder", "proj_out")) for part in left), (
        left
    )
    for ours, theirs in body.items():
        np.testing.assert_array_equal(after[ours], before[theirs], err_msg=ours)
    again, _ = pretrained.load(tmp_path / "ours")
    assert again == config


def test_weight_norms_of_older_files_are_read(tmp_path):
    made = golden.load("wav2vec2_base_ctc")
    golden.folder(made, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / "model.safetensors")
    _, model = pretrained.load(tmp_path)
    length = peers_audio.LENGTHS[1]
    outputs, _, _ = run(model, made.inputs["waves"][1:, :length], np.ones((1, length), bool))
    assert differs(outputs, made.outputs["alone"]) <= 2e-5


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("wav2vec2_base_ctc", "hidden_act", "prelu"),
        ("wav2vec2_base_ctc", "add_adapter", True),
        ("hubert_large", "conv_pos_batch_norm", True),
        ("whisper", "activation_function", "prelu"),
    ],
)
def test_a_config_that_asks_for_more_is_refused(kind, field, value):
    made = golden.load(kind)
    table = pretrained.formats()[made.config["model_type"]]
    with pytest.raises(InputError, match=rf"config.json,? {field}: "):
        table.config({**made.config, field: value})


def sizes(config):
    state = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


BASE = wav2vec2.Config(outputs=32)
LARGE = wav2vec2.Config(
    outputs=32, conv_bias=True, feature_norm="layer", norm="pre", layers=24, width=1024, heads=16, feed_forward=4096
)
PUBLISHED = {
    "Wav2Vec2ForCTC": (BASE, 94_396_320),
    "Wav2Vec2ForCTC large": (LARGE, 315_471_520),
    "HubertModel": (wav2vec2.Config(pooling="hidden"), 94_371_712),
    "WhisperModel": (whisper.Config(inputs=80, pooling="hidden"), 20_590_592),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_sizes_are_the_published_ones(name):
    config, count = PUBLISHED[name]
    assert sizes(config) == count


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLISHED)
def test_full_sizes_are_those_of_transformers(name):
    import torch
    import transformers

    kind = getattr(transformers, name.split()[0])
    fields = {}
    if "large" in name:
        fields = dict(
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_hidden_layers=24,
            hidden_size=1024,
            num_attention_heads=16,
            intermediate_size=4096,
        )
    if "Whisper" in name:
        fields = dict(
            d_model=512,
            encoder_layers=6,
            decoder_layers=6,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            encoder_ffn_dim=2048,
            decoder_ffn_dim=2048,
        )
    with torch.device("meta"):
        net = kind(kind.config_class(**fields))
    net = net.encoder if "Whisper" in name else net
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name][1]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["wav2vec2_base_ctc", "hubert_large"])
def test_transformers_reads_what_we_write(name, tmp_path):
    import torch
    import transformers

    made = golden.load(name)
    config, model = pretrained.load(golden.folder(made, tmp_path / "published"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    pretrained.save(
        config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "ours", format=made.config["model_type"]
    )
    kind = getattr(transformers, made.config["architectures"][0])
    net, about = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not about["missing_keys"] and not about["unexpected_keys"] and not about["mismatched_keys"]
    length = peers_audio.LENGTHS[1]
    with torch.no_grad():
        outputs = net.eval()(torch.from_numpy(made.inputs["waves"][1:, :length]))[0]
    assert differs(outputs, made.outputs["alone"]) <= 2e-5
