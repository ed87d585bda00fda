"""Audio encoders: masks, batch statistics, shapes, errors, gradients, and tables that match their parameters."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from suite.errors import InputError
from suite.experiment.sections import Precision
from suite.models import audio, wav2vec2, wavenet_encoder, whisper
from suite.training import precision
from suite.tree import paths

SHORT = {
    "conv_widths": (6, 6),
    "conv_kernels": (10, 3),
    "conv_strides": (5, 2),
    "layers": 1,
    "width": 16,
    "heads": 2,
    "feed_forward": 24,
    "position_kernel": 8,
    "position_groups": 2,
    "outputs": 5,
    "mask_time": 0.3,
    "mask_time_length": 2,
}
CONFORMER = {"inputs": 8, "outputs": 5, "layers": 1, "width": 16, "heads": 2, "kernel": 5}
GATED = {"inputs": 8, "outputs": 5, "cycles": 2, "dilations": 2, "width": 12, "skip": 10}
CONFIGS = {
    "conformer": audio.Config(**CONFORMER),
    "conformer layer rotary": audio.Config(**CONFORMER, norm="layer", positions="rotary", subsampling=2),
    "conformer plane": audio.Config(**CONFORMER, stem="conv2d", positions="none", subsampling=8),
    "conformer whole": audio.Config(**{**CONFORMER, "kernel": 4}, subsampling=1),
    "wavenet": wavenet_encoder.Config(**GATED),
    "wavenet subsampled": wavenet_encoder.Config(**GATED, subsampling=4, taps=5),
    "wav2vec2": wav2vec2.Config(**SHORT),
    "wav2vec2 large": wav2vec2.Config(**SHORT, conv_bias=True, feature_norm="layer", norm="pre"),
    "whisper": whisper.Config(inputs=8, outputs=5, layers=1, width=16, heads=2, feed_forward=24, max_length=30),
}
LENGTHS = np.array([53, 30, 17])


@functools.cache
def built(config):
    """The model, its initial values compiled in one go."""
    return nnx.jit(lambda: config.build(rngs=nnx.Rngs(0)))()


def parts(model):
    """Graph, parameters and the rest, as the trainer holds them."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def recording(config):
    """Features or waveforms, padding being noise too, and their mask."""
    tail = () if isinstance(config, wav2vec2.Config) else (8,)
    x = jax.random.normal(jax.random.key(0), (len(LENGTHS), int(LENGTHS.max()), *tail))
    return x, jnp.arange(x.shape[1]) < LENGTHS[:, None]


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_no_output(name):
    config = CONFIGS[name]
    model = nnx.jit(built(config))
    x, mask = recording(config)
    outputs, real = model(x, mask)
    assert outputs.dtype == jnp.float32 and real.dtype == bool and outputs.shape == (*real.shape, 5)
    alone, alone_real = model(x[1:2, : LENGTHS[1]], jnp.ones((1, LENGTHS[1]), bool))
    count = alone.shape[1]
    assert alone_real.all() and int(real[1].sum()) == count > 0 and real[1, :count].all()
    np.testing.assert_allclose(outputs[1, :count], alone[0], atol=5e-6)


@pytest.mark.parametrize("name", ["conformer", "wavenet", "wav2vec2"])
def test_the_mean_is_of_real_frames(name):
    config = dataclasses.replace(CONFIGS[name], pooling="mean")
    model = nnx.jit(built(config))
    x, mask = recording(config)
    logits = model(x, mask)
    assert logits.shape == (3, 5)
    alone = model(x[1:2, : LENGTHS[1]], jnp.ones((1, LENGTHS[1]), bool))
    np.testing.assert_allclose(logits[1], alone[0], atol=5e-6)
    empty = model(x, mask & (jnp.arange(3) != 1)[:, None])  # a row that fills up the batch
    assert np.isfinite(empty).all()
    np.testing.assert_allclose(empty[0], logits[0], atol=5e-6)


def test_batch_statistics_are_of_real_frames():
    """What is behind the end of rows, and rows that fill up the batch, change neither outputs nor statistics."""
    config = dataclasses.replace(CONFIGS["conformer"], dropout=0.0, attention_dropout=0.0)
    graph, params, rest = parts(built(config))

    @jax.jit
    def train(x, mask):
        model = nnx.merge(graph, params, rest)
        outputs, _ = model(x, mask, rngs=nnx.Rngs(dropout=0))
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    x, mask = recording(config)
    outputs, seen = train(x, mask)
    filler = jnp.full((2, *x.shape[1:]), 9.0)
    more, more_seen = train(
        jnp.concatenate([jnp.where(mask[..., None], x, -3), filler]),
        jnp.concatenate([mask, jnp.zeros((2, mask.shape[1]), bool)]),
    )
    seen, more_seen = paths(seen), paths(more_seen)
    assert seen.keys() == more_seen.keys() and len(seen) == 2
    for path, value in seen.items():
        assert float(jnp.abs(value - float("variance" in path)).max()) > 1e-3
        np.testing.assert_allclose(value, more_seen[path], atol=1e-6)
    for row, length in enumerate(-(-LENGTHS // 4)):
        np.testing.assert_allclose(outputs[row, :length], more[row, :length], atol=5e-6)


@pytest.mark.parametrize("subsampling", [1, 2, 4, 8])
def test_the_stem_rounds_frames_up(subsampling):
    config = dataclasses.replace(CONFIGS["conformer"], subsampling=subsampling)
    graph, state = nnx.split(nnx.eval_shape(lambda: audio.Stem(config, rngs=nnx.Rngs(0))))
    for length in (1, 2, 4, 5, 8, 9):
        features, mask = jax.ShapeDtypeStruct((2, length, 8), jnp.float32), jax.ShapeDtypeStruct((2, length), bool)
        x, real = jax.eval_shape(lambda state, *args: nnx.merge(graph, state)(*args, None), state, features, mask)
        assert x.shape == (2, -(-length // subsampling), 16) and real.shape == x.shape[:2]


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("conformer", "bfloat16"),
        ("conformer plane", "float32"),
        ("wavenet", "bfloat16"),
        ("wav2vec2", "bfloat16"),
        ("wav2vec2 large", "float32"),
        ("whisper", "float32"),
    ],
)
def test_gradients_are_finite_and_reach_every_parameter(name, compute):
    config = CONFIGS[name]
    model = precision.apply(built(config), Precision(compute=compute))
    graph, params, rest = parts(model)
    x, mask = recording(config)

    def loss(params, key):
        outputs, real = nnx.merge(graph, params, rest)(x, mask, rngs=nnx.Rngs(dropout=key))
        return jnp.where(real[..., None], jnp.sin(3 * outputs), 0).sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(params, jax.random.key(1))
    assert np.isfinite(value)
    for path, grad in paths(grads).items():
        assert np.isfinite(grad).all() and grad.dtype == jnp.float32, path
        assert (grad != 0).any(), path


@pytest.mark.parametrize("name", ["conformer layer rotary", "wav2vec2", "whisper"])
def test_dropout_acts_where_rngs_are_given(name):
    config = dataclasses.replace(CONFIGS[name], dropout=0.2)
    model, args = built(config), recording(config)
    run = nnx.jit(lambda model, key: model(*args, rngs=nnx.Rngs(dropout=key))[0])
    assert (run(model, jax.random.key(1)) != run(model, jax.random.key(2))).any()
    np.testing.assert_array_equal(run(model, jax.random.key(1)), run(model, jax.random.key(1)))


def test_spans_cover_the_share_that_is_asked_for():
    config = wav2vec2.Config(
        width=16, heads=2, position_groups=2, mask_time=0.2, mask_features=0.1, mask_features_length=3
    )
    layer = wav2vec2.SpanMask(config, rngs=nnx.Rngs(0))
    layer.vector[...] = jnp.full((16,), 7.0)
    x = jnp.ones((400, 100, 16))
    y = np.asarray(layer(x, nnx.Rngs(dropout=0)))
    np.testing.assert_array_equal(layer(x, None), x)
    spared = (y != 0).any(1)  # channels that were not zeroed
    frames = (y == 7).any(2)
    # Spans overlap: 1 - (1 - 0.02) ** 10 of the frames, 1 - (1 - 0.1 / 3) ** 3 of the channels, fewer at the start.
    assert 0.15 < frames.mean() < 0.20 and 0.07 < 1 - spared.mean() < 0.11
    for row in frames:
        ends = np.flatnonzero(row[:-1] & ~row[1:])
        starts = np.flatnonzero(~row[:-1] & row[1:])
        for start in starts:
            later = ends[ends > start]
            assert not len(later) or later[0] - start >= 10


def test_a_conformer_learns_to_spell():
    """Rows of tones, each lasting six frames, no two alike in a row: CTC has to find which, not being told where."""
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 3, (16, 4)).cumsum(1) % 3 + 1
    frames = np.repeat(np.eye(8)[targets], 6, 1) + 0.3 * rng.standard_normal((16, 24, 8))
    x, mask = jnp.asarray(frames, jnp.float32), jnp.ones((16, 24), bool)
    config = audio.Config(inputs=8, outputs=4, layers=1, width=32, heads=2, kernel=5, subsampling=2, dropout=0.0)
    graph, params, rest = parts(built(config))
    tx = optax.adam(3e-3)

    def loss(params, rest):
        model = nnx.merge(graph, params, rest)
        logits, real = model(x, mask, rngs=nnx.Rngs(dropout=0))
        value = optax.ctc_loss(logits, 1.0 - real, targets, jnp.zeros(targets.shape)).mean()
        return value, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    @jax.jit
    def step(params, rest, opt):
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest)
        updates, opt = tx.update(grads, opt)
        return optax.apply_updates(params, updates), rest, opt, value

    opt, values = tx.init(params), []
    for _ in range(50):
        params, rest, opt, value = step(params, rest, opt)
        values.append(float(value))
    assert values[-1] < 0.3 < 4 < values[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_tables_match_the_parameters(name):
    config = CONFIGS[name]
    params = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    leaves = paths(nnx.to_pure_dict(params))
    for rule, spec in config.sharding:
        matched = [path for path in leaves if re.search(rule, path)]
        assert matched, rule
        assert all(len(spec) <= leaves[path].ndim for path in matched), rule
    depths = {path: config.layer_of(path) for path in leaves}
    assert set(depths.values()) == {*range(config.depth + 1)} and config.depth == getattr(config, "layers", 4) + 1
    first = {path for path in depths if "layers/0/" in path or path.startswith("norms/0/")}
    assert first == {path for path, depth in depths.items() if depth == 1}
    assert depths["head/kernel"] == config.depth


def test_adopting_published_weights_keeps_what_training_decides():
    published = wav2vec2.Config(**{**SHORT, "outputs": 0}, pooling="hidden", norm="pre")
    mine = wav2vec2.Config(outputs=29, dropout=0.3, mask_time=0.2)
    adopted = mine.adopt(published)
    assert (adopted.width, adopted.norm, adopted.conv_kernels) == (16, "pre", (10, 3))
    assert (adopted.outputs, adopted.dropout, adopted.mask_time, adopted.pooling) == (29, 0.3, 0.2, "none")
    whispers = whisper.Config(outputs=3, pooling="mean").adopt(whisper.Config(inputs=80, pooling="hidden", layers=4))
    assert (whispers.inputs, whispers.layers, whispers.outputs, whispers.pooling) == (80, 4, 3, "mean")
    for config in (mine, whisper.Config(), CONFIGS["conformer"]):
        with pytest.raises(InputError, match="init_from"):
            config.adopt(published if not isinstance(config, wav2vec2.Config) else whispers)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 5}, "field model.heads: must divide width"),
        (
            {"width": 12, "heads": 4, "positions": "rotary"},
            "field model.heads: rotary positions need an even width a head",
        ),
        ({"subsampling": 3}, "field model.subsampling: no such choice"),
        ({"stem": "conv2d", "subsampling": 1}, "field model.subsampling: must be 2, 4 or 8"),
        ({"kernel": 0}, "field model.kernel: must be at least 1"),
        ({"layers": -1}, "field model.layers: must not be negative"),
        ({"dropout": 1.0}, "field model.dropout: must be at least 0 and below 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=re.escape(message)):
        audio.Config(**{**CONFORMER, **fields})


def test_other_families_refuse_wrong_fields():
    with pytest.raises(InputError, match=r"model\.position_groups: must divide width"):
        wav2vec2.Config(**{**SHORT, "position_groups": 3})
    with pytest.raises(InputError, match=r"model\.conv_widths: needs one entry a convolution"):
        wav2vec2.Config(**{**SHORT, "conv_kernels": (3,)})
    with pytest.raises(InputError, match=r"model\.width: must be even"):
        whisper.Config(width=15, heads=3)
    for config in (audio.Config(), wav2vec2.Config(), whisper.Config()):
        with pytest.raises(InputError, match="is 0, and the task did not give it"):
            config.build(rngs=nnx.Rngs(0))


def test_recordings_that_are_too_short_or_long_are_refused():
    model = built(CONFIGS["wav2vec2"])
    with pytest.raises(InputError, match="recordings of 19 samples give not one frame"):
        jax.eval_shape(model, jnp.zeros((1, 19)), jnp.ones((1, 19), bool))
    assert model.encoder.config.frames(20) == 1 and list(model.encoder.config.frames(np.array([3, 30]))) == [0, 2]
    model = built(CONFIGS["whisper"])
    with pytest.raises(InputError, match="input of 61 frames, but the model has positions for 60"):
        jax.eval_shape(model, jnp.zeros((1, 61, 8)), jnp.ones((1, 61), bool))
