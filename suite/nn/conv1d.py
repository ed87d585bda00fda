"""Convolutions over time, in forms that each platform computes well.

XLA's CPU backend has no fast kernel for one-dimensional convolutions (strided: twice the time of products, grouped:
six times PyTorch's), so there a convolution is a sum of matrix products, a depthwise one a sum of shifted rows, and
a grouped one with a long kernel a product in the frequency domain. In bfloat16 oneDNN is faster than the products where
it can be used (`suite.nn.conv`), in float32 slower. Elsewhere all of them are XLA's convolution. The forms agree to
rounding, gradients included.

Dims: b batch, t frames in, u frames out, k taps, s stride, i inputs, o outputs, d width, g groups, c inputs a group,
e outputs a group, n block length, f frequencies.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.conv import by_library, conv2d
from suite.nn.dot import Computing, dot

_LECUN = nnx.initializers.lecun_normal()
_NARROW = 256
"""Inputs of one product below which all taps are gathered into one product instead of adding up several."""


def conv1d(
    x: Float[Array, "b t i"], w: Float[Array, "k i o"], stride: int = 1, compute: str = "float32"
) -> Float[Array, "b u o"]:
    """``y[u] = sum over k of x[s u + k] @ w[k]``, float32, with u = (t - k) // s + 1 frames: no padding.

    ``compute`` is the format of the operands, see `suite.nn.dot.dot`.
    """
    ours, theirs = partial(_as_products, stride, compute), partial(_as_convolution, stride, 1, compute)
    if compute == "bfloat16" and by_library(x[:, None], w[None], stride, compute=compute):
        ours = partial(_as_rows, stride, compute)
    return lax.platform_dependent(x, w, cpu=ours, default=theirs)


def depthwise_conv1d(x: Float[Array, "b t d"], w: Float[Array, "k d"]) -> Float[Array, "b u d"]:
    """``y[u] = sum over k of x[u + k] * w[k]``, each channel for itself, with u = t - k + 1: no padding. float32."""
    theirs = lambda x, w: _as_convolution(1, w.shape[1], "float32", x, w[:, None])
    return lax.platform_dependent(x, w, cpu=_shifted, default=theirs)


def grouped_conv1d(
    x: Float[Array, "b t d"], w: Float[Array, "k c o"], compute: str = "float32", block: int = 256
) -> Float[Array, "b u o"]:
    """A convolution whose outputs read the channels of their own group only: groups = d / c, u = t - k + 1.

    On a CPU, by Fourier transforms of overlapping blocks of at least ``block`` frames, in float32.
    """
    ours = partial(_by_frequency, block)
    theirs = partial(_as_convolution, 1, x.shape[2] // w.shape[1], compute)
    return lax.platform_dependent(x, w, cpu=ours, default=theirs)


def _as_convolution(stride: int, groups: int, compute: str, x: Array, w: Array) -> Array:
    """XLA's own convolution. In bfloat16 its result is, too, since its derivatives want one format throughout."""
    x, w = x.astype(compute), w.astype(compute)
    y = lax.conv_general_dilated(
        x, w, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )
    return y.astype(jnp.float32)


def _as_rows(stride: int, compute: str, x: Array, w: Array) -> Array:
    """As images of one row."""
    return conv2d(x[:, None], w[None], stride, compute=compute)[:, 0]


def _as_products(stride: int, compute: str, x: Array, w: Array) -> Array:
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
def _shifted(x: Array, w: Array) -> Array:
    """One fused pass: k multiplications and additions an element."""
    frames = x.shape[1] - w.shape[0] + 1
    return sum((x[:, j : j + frames] * w[j] for j in range(1, w.shape[0])), x[:, :frames] * w[0])


def _shifted_forward(x: Array, w: Array) -> tuple[Array, tuple]:
    return _shifted(x, w), (x, w)


def _shifted_backward(kept: tuple, g: Array) -> tuple[Array, Array]:
    # Derivatives of slices would be k padded arrays to add up; the same sums are a convolution with the taps reversed.
    x, w = kept
    k, frames = w.shape[0], g.shape[1]
    dx = _shifted(jnp.pad(g, ((0, 0), (k - 1, k - 1), (0, 0))), w[::-1])
    return dx, jnp.stack([(x[:, j : j + frames] * g).sum((0, 1)) for j in range(k)])


_shifted.defvjp(_shifted_forward, _shifted_backward)


def _by_frequency(block: int, x: Array, w: Array) -> Array:
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


class Conv1d(Computing):
    """A convolution over time with ``padding`` frames of zeros on either side.

    Attributes:
        kernel: (k, inputs, outputs).
        bias: (outputs,), zero at first; None where ``use_bias`` is False.
        compute: format of the operands.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        taps: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: int = 0,
        use_bias: bool = True,
        init: Callable[..., Any] = _LECUN,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (taps, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.stride = stride
        self.padding = padding
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u o"]:
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        y = conv1d(x, self.kernel[...], self.stride, self.compute)
        return y if self.bias is None else y + self.bias[...]


class DepthwiseConv1d(nnx.Module):
    """Each channel convolved with taps of its own; as many frames out as in, zeros beyond both ends.

    Attributes:
        kernel: (k, width).
        bias: (width,), zero at first; None where ``use_bias`` is False.
    """

    def __init__(self, width: int, taps: int, *, rngs: nnx.Rngs, use_bias: bool = True):
        self.kernel = nnx.Param(_LECUN(rngs.params(), (taps, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,))) if use_bias else None

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        taps = self.kernel.shape[0]
        x = jnp.pad(x, ((0, 0), ((taps - 1) // 2, taps // 2), (0, 0)))
        y = depthwise_conv1d(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...]


class PositionalConv(Computing):
    """A long grouped convolution whose output tells each frame where it is, with a weight norm over each tap.

    The relative positional embedding of wav2vec 2.0 (`Baevski et al., 2020 <https://arxiv.org/abs/2006.11477>`_); the
    kernel is ``gain * direction / |direction|`` (`arXiv 1602.07868 <https://arxiv.org/abs/1602.07868>`_), the norm
    taken over inputs and outputs of each tap. As many frames out as in.

    Attributes:
        gain: (k, 1, 1).
        direction: (k, width / groups, width).
        bias: (width,).
        compute: format of the operands, where the platform has a convolution for it.
    """

    def __init__(self, width: int, taps: int, groups: int, *, rngs: nnx.Rngs):
        shape = (taps, width // groups, width)
        # The deviation of the published code: 2 / sqrt(taps * width).
        init = nnx.initializers.normal(2 * (taps * width) ** -0.5)
        self.direction = nnx.Param(init(rngs.params(), shape, jnp.float32))
        self.gain = nnx.Param(tap_norm(self.direction[...]))
        self.bias = nnx.Param(jnp.zeros((width,)))
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        direction = self.direction[...]
        kernel = direction * (self.gain[...] / tap_norm(direction))
        taps = len(kernel)
        # An even kernel has its middle right of the centre, as in the published models.
        x = jnp.pad(x, ((0, 0), (taps // 2, (taps - 1) // 2), (0, 0)))
        return grouped_conv1d(x, kernel, self.compute) + self.bias[...]


def tap_norm(direction: Float[Array, "k c o"]) -> Float[Array, "k 1 1"]:
    """The norm of each tap."""
    return jnp.sqrt(jnp.square(direction).sum((1, 2), keepdims=True))
