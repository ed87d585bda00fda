"""Convolutions over time on a CPU, as sums of products.

XLA's CPU backend has no fast kernel for one-dimensional convolutions (strided: twice the time of products, grouped:
six times PyTorch's), so a convolution is a sum of matrix products, a depthwise one a sum of shifted rows, and a grouped
one with a long kernel a product in the frequency domain. In bfloat16 oneDNN is faster than the products where it may
be called, in float32 slower.

Dims: see `suite.nn.conv1d`; n block length, f frequencies.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from suite.nn.conv import conv2d
from suite.nn.cpu.switch import by_library
from suite.nn.dot import dot

_NARROW = 256
"""Inputs of one product below which all taps are gathered into one product instead of adding up several."""


def convolve(stride: int, compute: str, x: Array, w: Array, dilation: int = 1) -> Array:
    """`suite.nn.conv1d.conv1d`, in the faster of two forms."""
    if compute == "bfloat16" and by_library(x[:, None], w[None], stride, compute=compute):
        return as_rows(stride, compute, x, w, dilation)
    return as_products(stride, compute, x, w) if dilation == 1 else as_dilated_products(dilation, compute, x, w)


def as_rows(stride: int, compute: str, x: Array, w: Array, dilation: int = 1) -> Array:
    """As images of one row; with a dilation, of as many columns, so that taps are places below one another."""
    if dilation == 1:
        return conv2d(x[:, None], w[None], stride, compute=compute)[:, 0]
    rows, length, inputs = x.shape
    frames = length - (w.shape[0] - 1) * dilation
    image = jnp.pad(x, ((0, 0), (0, -length % dilation), (0, 0))).reshape(rows, -1, dilation, inputs)
    return conv2d(image, w[:, None], compute=compute).reshape(rows, -1, w.shape[2])[:, :frames]


def as_dilated_products(dilation: int, compute: str, x: Array, w: Array) -> Array:
    """Taps gathered into one product."""
    k, inputs, outputs = w.shape
    frames = x.shape[1] - (k - 1) * dilation
    shifted = [x[:, j * dilation : j * dilation + frames] for j in range(k)]
    return dot(jnp.concatenate(shifted, -1), w.reshape(k * inputs, outputs), compute)


def as_products(stride: int, compute: str, x: Array, w: Array) -> Array:
    """Frames in groups of ``stride`` are rows of a matrix; each group of taps is a product with shifted rows."""
    k, inputs, outputs = w.shape
    frames = (x.shape[1] - k) // stride + 1
    groups = -(-k // stride)
    rows = frames + groups - 1
    x = x[:, : rows * stride]
    x = jnp.pad(x, ((0, 0), (0, rows * stride - x.shape[1]), (0, 0)))
    x = x.reshape(x.shape[0], rows, stride * inputs)
    shifted = [(x[:, j : j + frames, : min(stride, k - j * stride) * inputs]) for j in range(groups)]
    if k * inputs <= _NARROW:
        return dot(jnp.concatenate(shifted, -1), w.reshape(k * inputs, outputs), compute)
    flat = w.reshape(k * inputs, outputs)
    parts = [dot(part, flat[j * stride * inputs :][: part.shape[2]], compute) for j, part in enumerate(shifted)]
    return sum(parts[1:], parts[0])


@jax.custom_vjp
def shifted_rows(x: Array, w: Array) -> Array:
    """One fused pass: k multiplications and additions an element."""
    frames = x.shape[1] - w.shape[0] + 1
    return sum((x[:, j : j + frames] * w[j] for j in range(1, w.shape[0])), x[:, :frames] * w[0])


def _shifted_forward(x: Array, w: Array) -> tuple[Array, tuple]:
    return shifted_rows(x, w), (x, w)


def _shifted_backward(residuals: tuple, g: Array) -> tuple[Array, Array]:
    # Derivatives of slices would be k padded arrays to add up; the same sums are a convolution with the taps reversed.
    x, w = residuals
    k, frames = w.shape[0], g.shape[1]
    dx = shifted_rows(jnp.pad(g, ((0, 0), (k - 1, k - 1), (0, 0))), w[::-1])
    return dx, jnp.stack([(x[:, j : j + frames] * g).sum((0, 1)) for j in range(k)])


shifted_rows.defvjp(_shifted_forward, _shifted_backward)


def by_frequency(block: int, x: Array, w: Array) -> Array:
    """Overlap and save: each block of n frames gives n - k + 1 outputs, a product a frequency and group."""
    batch, length, width = x.shape
    k, inputs, outputs = w.shape
    groups, frames = width // inputs, length - k + 1
    n = max(block, 1 << (2 * k - 1).bit_length())
    hop = n - k + 1
    count = -(-frames // hop)
    x = jnp.pad(x, ((0, 0), (0, (count - 1) * hop + n - length), (0, 0)))
    blocks = jnp.stack([x[:, j * hop : j * hop + n] for j in range(count)], 1)
    spectrum = jnp.fft.rfft(blocks.reshape(batch * count, n, groups, inputs), axis=1)
    kernel = jnp.conj(jnp.fft.rfft(w, n, axis=0)).reshape(n // 2 + 1, inputs, groups, outputs // groups)
    product = jnp.einsum("bfgc,fcge->bfge", spectrum, kernel).reshape(batch * count, n // 2 + 1, outputs)
    y = jnp.fft.irfft(product, n, axis=1)[:, :hop].reshape(batch, count * hop, outputs)
    return y[:, :frames]
