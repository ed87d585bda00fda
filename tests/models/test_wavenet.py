"""WaveNet: cached generation beside the whole pass, what a sample may read, conditions, and rows of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.models import wavenet
from suite.tree import paths

HOP, FRAMES = 5, 7
SMALL = {"inputs": 4, "cycles": 2, "dilations": 2, "width": 6, "skip": 8, "condition": 5}
CONFIGS = {
    "mulaw": wavenet.Config(**SMALL),
    "logistics of three taps": wavenet.Config(**SMALL, output="logistics", mixtures=3, taps=3),
    "gaussian of two speakers": wavenet.Config(**SMALL, output="gaussian", speakers=2),
    "speakers alone": wavenet.Config(**SMALL, framed=False, speakers=2),
    "nothing": wavenet.Config(**SMALL, framed=False, classes=64),
}


@functools.cache
def built(name):
    return nnx.jit(lambda: CONFIGS[name].build(rngs=nnx.Rngs(0)))()


@functools.cache
def generating():
    """Compiled once for each model and shape."""
    return nnx.jit(lambda model, *given, speaker: model.generate(*given[:2], HOP, *given[2:], speaker))


def generated(name, rows=3, frames=FRAMES, seeds=None, temperature=1.0, speaker=1):
    features, mask = recording(rows, frames)
    keys = row_keys(jnp.asarray(np.arange(rows) if seeds is None else seeds, jnp.uint32))
    voices = jnp.full(rows, speaker, jnp.int32)
    return generating()(built(name), features, mask, keys, jnp.full(rows, temperature), speaker=voices)


def recording(rows, frames):
    return jax.random.normal(jax.random.key(1), (1, FRAMES, 4)).repeat(rows, 0)[:, :frames], jnp.ones(
        (rows, frames), bool
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_steps_say_what_the_whole_pass_says(name):
    model, samples, (features, mask) = built(name), generated(name), recording(3, FRAMES)
    voices = jnp.ones(3, jnp.int32)
    whole = nnx.jit(model)(samples, features, mask, voices)

    @nnx.jit
    def stepwise(model, samples):
        condition = model.condition(features, mask, voices)
        added = None
        if condition is not None:
            added = jnp.stack([wavenet.upsampled(layer.condition(condition), HOP) for layer in model.layers], 2)

        def step(rings, inputs):
            last, place = inputs
            parameters, rings = model.step(last, None if added is None else added[:, place], rings)
            return rings, parameters

        before = jnp.pad(samples, ((0, 0), (1, 0)))[:, :-1].T
        return jax.lax.scan(step, model.rings(3), (before, jnp.arange(len(before))))[1].swapaxes(0, 1)

    assert float(jnp.abs(whole[:, 1:] - whole[:, :-1]).max()) > 1e-2
    np.testing.assert_allclose(stepwise(model, samples), whole, atol=1e-5)


def test_generated_samples_are_drawn_of_what_the_whole_pass_says():
    """With the uniform numbers of their row and frame, frame by frame."""
    model, (features, mask) = built("mulaw"), recording(3, FRAMES)
    samples = generated("mulaw")
    parameters = nnx.jit(model)(samples, features, mask)
    keys = row_keys(jnp.arange(3, dtype=jnp.uint32))
    for frame in range(FRAMES - 1):
        of_frame = jax.vmap(jax.random.fold_in, (0, None))(keys, frame)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (HOP, 1)))(of_frame)
        for place in range(HOP):
            n = frame * HOP + place
            drawn = model.distribution.draw(parameters[:, n], uniform[:, place], jnp.ones(3))
            np.testing.assert_allclose(drawn, samples[:, n], atol=1e-6)


@pytest.mark.parametrize("name", ["mulaw", "logistics of three taps"])
def test_a_sample_reads_its_receptive_field_and_nothing_else(name):
    config, model = CONFIGS[name], built(name)
    length = 40
    features, mask = jnp.zeros((1, length // HOP + 1, 4)), jnp.ones((1, length // HOP + 1), bool)
    samples = 0.1 * jax.random.normal(jax.random.key(2), (1, length))
    place = length - 2
    reads = jax.jit(jax.grad(lambda samples: nnx.merge(*nnx.split(model))(samples, features, mask)[0, place].sum()))
    read = np.flatnonzero(np.asarray(reads(samples))[0])
    assert read[-1] == place - 1 and read[0] == max(place - config.receptive_field, 0)


def test_a_row_is_the_same_alone_in_company_and_whatever_it_is_padded_to():
    together = generated("mulaw", seeds=[5, 6, 5])
    assert (together[0] == together[2]).all() and (together[0] != together[1]).any()
    np.testing.assert_allclose(generated("mulaw", rows=1, seeds=[6])[0], together[1], atol=1e-6)
    features, mask = recording(2, FRAMES)
    mask = mask.at[1, 4:].set(False)
    keys, warm = row_keys(jnp.array([5, 6], jnp.uint32)), jnp.ones(2)
    padded = generating()(built("mulaw"), features, mask, keys, warm, speaker=None)
    features, mask = recording(2, 4)
    alone = generating()(built("mulaw"), features, mask, keys, warm, speaker=None)
    np.testing.assert_allclose(padded[1, : 3 * HOP], alone[1], atol=1e-6)


def test_conditions_are_read_where_the_model_has_them():
    assert (generated("speakers alone", speaker=0) != generated("speakers alone")).any()
    assert (generated("nothing", speaker=0) == generated("nothing")).all()
    kinds = {
        name: {path.split("/")[0] for path in paths(nnx.to_pure_dict(nnx.state(built(name), nnx.Param)))}
        for name in CONFIGS
    }
    assert "frames" in kinds["mulaw"] and not {"frames", "speakers"} & kinds["nothing"]
    with pytest.raises(ValueError, match="no speaker is given"):
        built("speakers alone")(jnp.zeros((1, HOP)), *recording(1, 2))


def test_frames_are_joined_by_straight_lines():
    frames = jnp.array([[0.0, 10.0, 0.0]])[..., None]
    assert wavenet.upsampled(frames, 5)[0, :, 0].tolist() == [0, 2, 4, 6, 8, 10, 8, 6, 4, 2]


def test_wrong_fields_are_named():
    with pytest.raises(InputError, match=r"(?s)model\.taps.*at least 2"):
        wavenet.Config(taps=1)
    with pytest.raises(InputError, match=r"(?s)model\.output.*mulaw"):
        wavenet.Config(output="softmax")
    with pytest.raises(InputError, match=r"(?s)model\.inputs.*the task did not give it"):
        wavenet.Config().build(rngs=nnx.Rngs(0))
