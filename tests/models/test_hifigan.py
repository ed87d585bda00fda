"""HiFi-GAN: lengths, rows of their own, the inverse transform, what discriminators see, and what is served."""

import functools
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import hifigan
from suite.models.parts import Parts
from suite.tree import paths

SMALL = {
    "inputs": 4,
    "channels": 8,
    "upsampling": (3, 2),
    "kernels": (3, 5),
    "dilations": (1, 2),
    "periods": (2, 3),
    "scales": 2,
    "discriminator_width": 1,
}
CONFIGS = {
    "samples": hifigan.Config(**SMALL),
    "transforms of voices": hifigan.Config(**SMALL, spectral_hop=2, speakers=2),
}


@functools.cache
def built(name):
    return nnx.jit(lambda: CONFIGS[name].build(rngs=nnx.Rngs(0)))()


def made(name, features, lengths):
    mask = jnp.arange(features.shape[1]) < jnp.asarray(lengths)[:, None]
    voices = jnp.arange(len(lengths)) % 2 if "voices" in name else None
    return np.asarray(nnx.jit(lambda model, *given: model(*given))(built(name), features, mask, voices))


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_are_made_alike_alone_and_beside_longer_ones(name):
    hop, features = CONFIGS[name].hop, np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float32)
    both = made(name, features, [5, 9])
    assert both.shape == (2, 8 * hop) and not both[0, 4 * hop :].any() and both[1].std() > 0
    alone = made(name, features[:1, :5], [5])
    np.testing.assert_allclose(alone[0], both[0, : 4 * hop], atol=1e-5)
    other = made(name, np.concatenate([features[:1], 0 * features[:1]]), [5, 9])
    np.testing.assert_allclose(other[0], both[0], atol=1e-5)


def test_windows_of_a_signal_are_the_signal():
    hop, frames = 3, 12
    size = 4 * hop
    signal = np.random.default_rng(0).standard_normal(hop * frames + size)
    # Frame i is in the middle of its hop, which begins at sample i hop of what is made.
    windows = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop][:frames]
    spectra = np.fft.rfft(windows)
    given = np.concatenate([np.log(np.abs(spectra)), np.angle(spectra)], 1)[None].astype(np.float32)
    samples = hifigan.overlapped(jnp.asarray(given), jnp.ones((1, frames), bool))[0]
    begin = 3 * hop // 2
    inner = slice(size, -size)
    assert samples.shape == (hop * frames,)
    np.testing.assert_allclose(samples[inner], signal[begin : begin + hop * frames][inner], atol=1e-4)


def test_a_discriminator_of_a_period_sees_each_column_alone():
    discriminator = hifigan.Discriminator(3, 1, 2, rngs=nnx.Rngs(0))
    samples = jax.random.normal(jax.random.key(0), (2, 100))
    features = discriminator(samples)
    assert features[-1].shape == (2, 3 * 1, 1) and features[0].shape == (2, 3 * 12, 2)
    apart = jnp.abs(discriminator(samples.at[:, 31].add(1))[0] - features[0]).reshape(2, 3, -1).max(-1)
    assert (np.asarray(apart > 0) == [False, True, False]).all()


def test_a_discriminator_of_a_scale_sees_means():
    discriminator = hifigan.Discriminator(1, 2, 2, rngs=nnx.Rngs(0))
    samples = jax.random.normal(jax.random.key(0), (1, 64))
    swapped = samples.reshape(1, 32, 2)[..., ::-1].reshape(1, 64)
    np.testing.assert_allclose(discriminator(samples)[-1], discriminator(swapped)[-1], atol=1e-6)


def test_what_is_served_has_no_discriminators():
    config = CONFIGS["samples"]
    whole, served = built("samples"), nnx.eval_shape(lambda: config.served.build(rngs=nnx.Rngs(0)))
    names = [set(paths(nnx.to_pure_dict(nnx.state(model, nnx.Param)))) for model in (whole, served)]
    assert names[1] == {name for name in names[0] if name.startswith("generator/")} < names[0]
    with pytest.raises(ValueError, match="without discriminators"):
        served.judge(jnp.zeros((1, 8)))
    assert Parts(parts={"voice": config}).served == Parts(parts={"voice": config.served})


def test_another_hop_is_refused_with_factors_that_fit():
    with pytest.raises(InputError) as error:
        built("samples").generate(jnp.zeros((1, 3, 4)), jnp.ones((1, 3), bool), 200)
    assert error.value.found == "6"
    words = shlex.split(error.value.fix)
    factors = tuple(map(int, words[1 : words.index("--model.spectral_hop")]))
    assert hifigan.Config(inputs=4, upsampling=factors, channels=2 ** len(factors)).hop == 200


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kernels": (3, 4)}, "field model.kernels must be odd"),
        ({"upsampling": ()}, "field model.upsampling must be numbers"),
        ({"periods": (1, 2)}, "field model.periods must be numbers of at least 2"),
        ({"channels": 6}, "field model.channels must be a multiple of 4"),
    ],
)
def test_wrong_sizes_are_refused(fields, said):
    with pytest.raises(InputError) as error:
        hifigan.Config(**{**SMALL, **fields})
    assert re.sub(r"[:\s]+", " ", str(error.value)).startswith(said)
