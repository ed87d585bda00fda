"""Fixed features with a linear layer: wavelet scattering of images, pooled frames of recordings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import pooled_frames, scattering
from suite.nn.scattering import coefficients, padded
from suite.nn.scattering import scattering as transform


def _wavelet(rows: int, columns: int, scale: int, turn: float) -> np.ndarray:
    """A periodic Morlet wavelet, point by point from its formula: (rows, columns) complex."""
    sigma, slant, frequency = 0.8 * 2**scale, 0.5, 0.75 * math.pi / 2**scale
    wave, envelope = np.zeros((rows, columns), complex), np.zeros((rows, columns))
    for period_y in range(-2, 3):
        for period_x in range(-2, 3):
            y, x = np.mgrid[:rows, :columns]
            y, x = y + period_y * rows, x + period_x * columns
            along, across = y * math.cos(turn) + x * math.sin(turn), x * math.cos(turn) - y * math.sin(turn)
            gaussian = np.exp(-(along**2 + slant**2 * across**2) / (2 * sigma**2))
            envelope += gaussian
            wave += gaussian * np.exp(1j * frequency * along)
    return (wave - envelope * wave.sum() / envelope.sum()) * slant / (2 * math.pi * sigma**2)


def _convolved(image: np.ndarray, wavelet: np.ndarray) -> np.ndarray:
    return np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(wavelet))


@pytest.mark.parametrize("shape", [(12, 8), (9, 12)])
def test_coefficients_are_averaged_moduli_of_circular_convolutions(shape):
    image = np.random.default_rng(0).random(shape)
    scales, angles = 2, 8
    found = np.asarray(transform(jnp.asarray(image[None, :, :, None]), scales, angles))[0, ..., 0]
    pads = [(4, padded(side, scales) - side - 4) for side in shape]
    wide = np.pad(image, pads, mode="reflect")
    kept = [-(-side // 4) for side in shape]

    def averaged(maps: np.ndarray, step: int) -> np.ndarray:
        """Gaussian means of a map of every ``step``-th pixel, at each fourth pixel of the image."""
        for axis in (0, 1):
            side = maps.shape[axis]
            centres = (np.arange(kept[axis]) + 1) * 4 / step
            apart = (np.arange(side) - centres[:, None] + side / 2) % side - side / 2
            weights = np.exp(-(apart**2) / (2 * (1.6 / step) ** 2))
            maps = np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), maps, (1, axis)), 0, axis)
        return maps

    first = [[np.abs(_convolved(wide, _wavelet(*wide.shape, j, math.pi * k / 8))) for k in range(8)] for j in (0, 1)]
    expected = [averaged(wide, 1)]
    expected += [averaged(one, 1) for one in first[0]] + [averaged(one[::2, ::2], 2) for one in first[1]]
    for one in first[0]:
        for k in range(angles):
            second = np.abs(_convolved(one, _wavelet(*wide.shape, 1, math.pi * k / 8)))
            expected.append(averaged(second[::2, ::2], 2))
    assert found.shape == (*kept, coefficients(scales, angles)) == (*kept, 81)
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=2e-5)


def test_a_scattering_network_of_colours_is_of_each_image_alone_and_has_gradients():
    config = scattering.Config(height=16, width=12, channels=3, outputs=4, angles=4, groups=5)
    model = config.build(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (3, 16, 12, 3))
    model.head.kernel[...] = jax.random.normal(jax.random.key(1), model.head.kernel.shape)
    together, alone = model(images), jnp.concatenate([model(image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    assert together.shape == (3, 4) and config.inputs == 4 * 3 * coefficients(2, 4) * 3
    still = jax.grad(lambda x: model(x).sum())(jnp.zeros((1, 16, 12, 3)))
    assert np.isfinite(still).all()


def test_groups_that_do_not_divide_the_coefficients_are_refused_with_those_that_do():
    with pytest.raises(InputError, match="81 coefficients") as caught:
        scattering.Config(groups=8)
    assert "27" in str(caught.value)


def test_pooled_frames_are_means_of_equal_stretches_whatever_the_padding():
    frames = np.random.default_rng(0).standard_normal((2, 10, 3)).astype(np.float32)
    mask = np.arange(10) < np.array([[6], [9]])
    config = pooled_frames.Config(inputs=3, outputs=9, stretches=3)
    model = config.build(rngs=nnx.Rngs(0))
    model.network.layers[0].kernel[...] = jnp.eye(9)
    model.network.layers[0].bias[...] = jnp.zeros(9)
    for row, length in enumerate((6, 9)):
        means = frames[row, :length].reshape(3, length // 3, 3).mean(1)
        expected = (means - means.mean()) / means.std()
        np.testing.assert_allclose(model(frames, mask)[row], expected.ravel(), rtol=1e-3, atol=1e-4)
    junk = np.where(mask[..., None], frames, np.nan)
    np.testing.assert_array_equal(model(junk, mask), model(frames, mask))


def test_a_frame_in_two_stretches_counts_in_each_by_its_share():
    frames, mask = np.arange(4, dtype=np.float32).reshape(1, 4, 1), np.ones((1, 4), bool)
    model = pooled_frames.Config(inputs=1, outputs=3, stretches=3).build(rngs=nnx.Rngs(0))
    model.network.layers[0].kernel[...] = jnp.eye(3)
    model.network.layers[0].bias[...] = jnp.zeros(3)
    means = np.array([0.25, 1.5, 2.75])  # of 0 and a third of 1, and so on
    np.testing.assert_allclose(model(frames, mask)[0], (means - means.mean()) / means.std(), rtol=1e-4, atol=1e-5)
