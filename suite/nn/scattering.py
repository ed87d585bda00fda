"""Wavelet scattering of images: moduli of two layers of oriented wavelets, averaged; nothing of it is learnt.

`Bruna & Mallat, 2013 <https://arxiv.org/abs/1203.1513>`_. Products with small Fourier matrices stand for fast
transforms, which are slower at these sizes and have no backward pass worth having.

Dims: b batch, c channels, n side of a padded image, m side of a map, j scales, l angles, k coefficients.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TINY = 1e-12
"""Below the square root of a modulus, so that it has a gradient at zero."""
_SPAN = 2
"""Periods on each side that a filter is summed over."""


class Filters(NamedTuple):
    """Fourier transforms of the wavelets of one size of image.

    Attributes:
        wavelets: (j, l, n, n) float32. Morlet wavelets have real transforms.
        averages: by scale, (m, n / 2**scale) float32: rows that average a map of that scale, with a Gaussian, at places
            2**j pixels apart.
    """

    wavelets: np.ndarray
    averages: tuple[np.ndarray, ...]


def padded(size: int, scales: int) -> int:
    """Side of an image with a margin of 2**scales pixels or a little more, divisible by 2**scales."""
    step = 2**scales
    return (-(-size // step) + 2) * step


def coefficients(scales: int, angles: int) -> int:
    """Coefficients a place: of no, one and two wavelets."""
    return 1 + scales * angles + angles**2 * scales * (scales - 1) // 2


def places(size: int, scales: int) -> int:
    """Places along a side that have coefficients."""
    return -(-size // 2**scales)


@functools.lru_cache(maxsize=8)
def filters(height: int, width: int, scales: int, angles: int) -> tuple[Filters, tuple[np.ndarray, ...]]:
    """Filters of images of this size, and the averages of their other axis (rows, then columns)."""
    rows, columns = padded(height, scales), padded(width, scales)
    turns = [math.pi * angle / angles for angle in range(angles)]
    wavelets = [
        [np.fft.fft2(_morlet(rows, columns, 0.8 * 2**scale, turn, 4 / angles, scale)).real for turn in turns]
        for scale in range(scales)
    ]
    averages = [
        tuple(_average(side // 2**scale, places(size, scales), scales, scale) for scale in range(scales + 1))
        for size, side in ((height, rows), (width, columns))
    ]
    return Filters(np.array(wavelets, np.float32), averages[0]), averages[1]


def _morlet(rows: int, columns: int, sigma: float, angle: float, slant: float, scale: int) -> np.ndarray:
    """A Morlet wavelet (rows, columns) complex of zero mean, periodic."""
    envelope = _oriented(rows, columns, sigma, angle, slant, 0.0)
    wave = _oriented(rows, columns, sigma, angle, slant, 0.75 * math.pi / 2**scale)
    return (wave - envelope * wave.sum() / envelope.sum()) * slant / (2 * math.pi * sigma**2)


def _oriented(rows: int, columns: int, sigma: float, angle: float, slant: float, frequency: float) -> np.ndarray:
    """A plane wave under a Gaussian that is ``1 / slant`` times as long across as along the wave."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    form = turn @ np.diag([1.0, slant**2]) @ turn.T / (2 * sigma**2)
    y = np.arange(-_SPAN * rows, (_SPAN + 1) * rows)[:, None]
    x = np.arange(-_SPAN * columns, (_SPAN + 1) * columns)[None, :]
    exponent = form[0, 0] * y**2 + (form[0, 1] + form[1, 0]) * y * x + form[1, 1] * x**2
    values = np.exp(-exponent + 1j * frequency * (y * math.cos(angle) + x * math.sin(angle)))
    folded: np.ndarray = values.reshape(2 * _SPAN + 1, rows, 2 * _SPAN + 1, columns).sum((0, 2))
    return folded


def _average(side: int, kept: int, scales: int, scale: int) -> np.ndarray:
    """Rows (kept, side) of a Gaussian around each place 2**scales pixels apart that is not in the margin, sum one."""
    step, sigma = 2 ** (scales - scale), 0.8 * 2 ** (scales - 1) / 2**scale
    centres = (1 + np.arange(kept)) * step
    distance = np.arange(-_SPAN * side, (_SPAN + 1) * side)[None, :] - centres[:, None]
    weights = np.exp(-(distance**2) / (2 * sigma**2)).reshape(kept, 2 * _SPAN + 1, side).sum(1)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _fourier(side: int, inverse: bool) -> np.ndarray:
    """The matrix of the discrete Fourier transform, or of its inverse, for rows of real, then imaginary parts."""
    turns = np.outer(np.arange(side), np.arange(side)) % side / side
    matrix = np.exp((2j if inverse else -2j) * math.pi * turns) / (side if inverse else 1)
    return np.block([[matrix.real, matrix.imag], [-matrix.imag, matrix.real]]).astype(np.float32)


def _transform(real: jax.Array, imag: jax.Array | None, inverse: bool) -> tuple[jax.Array, jax.Array]:
    """Discrete Fourier transform over the last two axes: products of long matrices, one an axis."""
    *lead, rows, columns = real.shape
    over_columns, over_rows = _fourier(columns, inverse), _fourier(rows, inverse)
    if imag is None:
        along = real @ over_columns[:columns]
    else:
        along = jnp.concatenate([real, imag], -1) @ over_columns
    turned = jnp.moveaxis(along.reshape(*lead, rows, 2, columns), -3, -1)  # columns last to first
    turned = jnp.moveaxis(turned, -2, -3).reshape(*lead, columns, 2 * rows)
    both = (turned @ over_rows).reshape(*lead, columns, 2, rows)
    return both[..., 0, :].swapaxes(-1, -2), both[..., 1, :].swapaxes(-1, -2)


def _folded(x: jax.Array, times: int) -> jax.Array:
    """The transform of every ``times``-th pixel, from that of all."""
    if times == 1:
        return x
    rows, columns = (side // times for side in x.shape[-2:])
    alike = itertools.product(range(times), repeat=2)
    parts = [x[..., i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] for i, j in alike]
    return sum(parts[1:], parts[0]) / times**2


def scattering(images: Float[Array, "b h w c"], scales: int = 2, angles: int = 8) -> Float[Array, "b m m k c"]:
    """Scattering coefficients at places 2**scales pixels apart.

    Args:
        images: floats; their borders are mirrored into a margin.
        scales: octaves; the largest wavelet spans about 2**scales pixels.
        angles: orientations over half a turn.

    Returns:
        The mean, then one wavelet (by scale, then angle), then two (by both scales, then both angles).
    """
    height, width = images.shape[1:3]
    (wavelets, over_rows), over_columns = filters(height, width, scales, angles)
    x = jnp.moveaxis(images.astype(jnp.float32), -1, 1)
    margin = 2**scales
    pads = [(margin, padded(size, scales) - size - margin) for size in (height, width)]
    x = jnp.pad(x, ((0, 0), (0, 0), *pads), mode="reflect" if min(height, width) > max(map(max, pads)) else "symmetric")

    def averaged(maps: jax.Array, scale: int) -> jax.Array:
        return jnp.einsum("pq,...qs->...ps", over_rows[scale], maps @ over_columns[scale].T)

    def moduli(real: jax.Array, imag: jax.Array, scale: int, before: int) -> jax.Array:
        """Moduli (..., l, n / 2**scale, n / 2**scale) of transforms (..., n / 2**before, n / 2**before)."""
        wavelet = _folded(jnp.asarray(wavelets[scale]), 2**before) * 4**before
        real, imag = (_folded(part[..., None, :, :] * wavelet, 2 ** (scale - before)) for part in (real, imag))
        real, imag = _transform(real, imag, inverse=True)
        return jnp.sqrt(real**2 + imag**2 + TINY)

    firsts, seconds = [], []
    spectrum = _transform(x, None, inverse=False)
    for scale in range(scales):
        first = moduli(*spectrum, scale, 0)
        firsts.append(averaged(first, scale))
        for later in range(scale + 1, scales):
            second = moduli(*_transform(first, None, inverse=False), later, scale)
            maps = averaged(second, later)
            seconds.append(maps.reshape(*maps.shape[:2], -1, *maps.shape[4:]))
    parts = [averaged(x, 0)[:, :, None], *firsts, *seconds]
    return jnp.moveaxis(jnp.concatenate(parts, 2), (1, 2), (-1, -2))
