"""wav2vec 2.0, HuBERT and Whisper against transformers: outputs, gradients, and the files both read."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from suite.codecs.transcription import segments
from suite.data.preprocessing.speech_tokens import Special
from suite.decoding.generation import Decoding
from suite.decoding.transcription import Quiet, transcribe
from suite.errors import InputError
from suite.models import wav2vec2, whisper
from suite.tree import paths
from suite.weights import pretrained
from suite.weights.imports import pattern
from tests import tiny_whisper
from tests.parity import golden, peers_audio

SPEECH = [name for name in peers_audio.CASES if not name.startswith("whisper")]
WHISPER = ["whisper", "whisper_generation"]
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
    forms = lambda name: (name, f"model.{name}", f"wav2vec2.{name}", name.removeprefix("model."))
    body = {other: name for other in after for name in forms(other) if name in before}
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


def written_down(model, features, timed, tokens, language=259, action=261, beams=1):
    """What the tiny Whisper writes down of features (b, t, f), window by window."""
    full = lambda value: jnp.full((len(features),), value, jnp.int32)
    asked = {"mask": full(1) > 0, "language": full(language), "action": full(action), "timed": full(timed) > 0}
    decoding, frames = Decoding(tokens=tokens, beams=beams), full(features.shape[1])
    run = jax.jit(lambda x: transcribe(model, x, frames, asked, SPECIAL, decoding, 16, Quiet(1.0, 0.0)))
    return jax.tree.map(np.asarray, run(jnp.asarray(features)))


SPECIAL = Special(
    start=tiny_whisper.START,
    end=tiny_whisper.END,
    languages={name[2:4]: token for name, token in tiny_whisper.LANGUAGES.items()},
    actions=tiny_whisper.TASKS,
    untimed=tiny_whisper.UNTIMED,
    begin=tiny_whisper.BEGIN,
    silence=tiny_whisper.SILENCE,
    never=tuple(tiny_whisper.GENERATION["suppress_tokens"]),
    first=tuple(tiny_whisper.GENERATION["begin_suppress_tokens"]),
    latest=tiny_whisper.GENERATION["max_initial_timestamp_index"],
)


def without_end(rows):
    return [row[: row.index(tiny_whisper.END)] if tiny_whisper.END in row else row for row in np.asarray(rows).tolist()]


@pytest.fixture(scope="module", params=SOURCES)
def transcribing(request, tmp_path_factory):
    made = case("whisper_transcription", request.param)
    config, model = pretrained.load(golden.folder(made, tmp_path_factory.mktemp("whisper")))
    assert config.decoder_layers == 2 and config.decoder_heads == 2
    return made, model


def test_whispers_decoder_agrees_with_transformers(transcribing):
    made, model = transcribing
    features, tokens = made.inputs["features"], jnp.asarray(made.inputs["tokens"])
    ones = jnp.ones(features.shape[:2], bool)
    logits = jax.jit(lambda x: model(x, ones, tokens))(features)
    assert differs(logits, made.outputs["logits"]) <= 2e-5
    memory, mask = model.encoder(jnp.asarray(features), ones)
    cache, cached = model.decoder.cache(memory, mask, tokens.shape[1]), []
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        last, cache = model.decoder.step(tokens[:, start:stop], jnp.ones((4, stop - start), bool), cache)
        cached.append(last)
    assert differs(jnp.stack(cached, 1), made.outputs["logits"][:, [3, 4, 8]]) <= 2e-5


@pytest.mark.parametrize(("name", "language", "beams"), [("greedy", 259, 1), ("heard", -1, 1), ("beams", 259, 3)])
def test_whisper_writes_down_what_transformers_does(transcribing, name, language, beams):
    made, model = transcribing
    features = made.inputs["features"]
    action = tiny_whisper.TASKS["transcribe" if name == "heard" else "translate"]
    said = written_down(model, features, False, 36, language, action, beams)
    assert said["windows"].tolist() == [1] * 4
    assert without_end(said["tokens"][:, 0]) == [[t for t in row if t >= 0] for row in made.outputs[name].tolist()]
    if name == "heard":
        assert said["language"].tolist() == made.outputs["language"].tolist()


@pytest.mark.parametrize("name", ["timed", "long"])
def test_whispers_segments_are_those_of_transformers(transcribing, name):
    made, model = transcribing
    features = made.inputs["long" if name == "long" else "features"]
    said = written_down(model, features, True, 37)
    ours = []
    for row in range(len(features)):
        for window in range(said["windows"][row]):
            start, length, whole = (int(said[part][row, window]) for part in ("starts", "lengths", "whole"))
            (ids,) = without_end(said["tokens"][row, window][None])
            for part in segments(ids, length, bool(whole), tiny_whisper.BEGIN):
                texts = [token for token in part.tokens if token < tiny_whisper.END]
                ours.append((row, round((start + part.start) / 100, 2), round((start + part.end) / 100, 2), texts))
    theirs = [
        (int(row), round(start, 2), round(end, 2), [int(line[3]) for line in lines if line[3] < tiny_whisper.END])
        for (row, start, end), lines in itertools.groupby(made.outputs[name].tolist(), lambda line: tuple(line[:3]))
    ]
    assert ours == theirs and len(theirs) > len(features)


def test_windows_that_are_left_are_enough_for_the_rest_of_a_recording(transcribing):
    made, model = transcribing
    frames = 180  # three windows
    long = made.inputs["long"][:, :frames]
    asked = {"mask": jnp.array([True, False, True]), "timed": jnp.ones(3, bool)}
    asked |= {name: jnp.full((3,), token, jnp.int32) for name, token in (("language", 259), ("action", 261))}
    most = 3  # as many as it needs, so each is heard whole
    few = transcribe(
        model, jnp.asarray(long), jnp.full((3,), frames), asked, SPECIAL, Decoding(tokens=37), most, Quiet(1.0, 0.0)
    )
    assert few["windows"].tolist() == [3, 0, 3] and few["starts"][0].tolist() == [0, 60, 120]
    assert few["whole"][0].all() and few["lengths"][0].tolist() == [60] * 3
