"""Convolutions over time: XLA's, and on a CPU the faster forms of `suite.nn.cpu.conv1d`, which agree to rounding.

Dims: b batch, t frames in, u frames out, k taps, s stride, i inputs, o outputs, d width, g groups, c inputs a group,
e outputs a group, r records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn import ghost
from suite.nn.cpu import conv1d as on_cpu
from suite.nn.cpu.switch import by_platform
from suite.nn.dot import Computing, dot

_LECUN = nnx.initializers.lecun_normal()


def conv1d(
    x: Float[Array, "b t i"], w: Float[Array, "k i o"], stride: int = 1, compute: str = "float32", dilation: int = 1
) -> Float[Array, "b u o"]:
    """``y[u] = sum over k of x[s u + dilation k] @ w[k]``, float32, where all taps meet a frame: no padding.

    ``compute`` is the format of the operands, see `suite.nn.dot.dot`. Of stride and dilation one is 1.
    """
    if stride > 1 and dilation > 1:
        raise ValueError(f"a convolution has a stride ({stride}) or a dilation ({dilation}), not both")
    product = _Convolution(len(w), stride, compute, dilation)
    return ghost.reported(product, x, w, product.of_rows(x, w))


@dataclass(frozen=True)
class _Convolution(ghost.Product):
    """`conv1d`: a matrix product of the taps with the frames that they meet."""

    taps: int
    stride: int
    compute: str
    dilation: int

    def of_rows(self, x: Float[Array, "b t i"], w: Float[Array, "k i o"]) -> Float[Array, "b u o"]:
        default = partial(_convolution, self.stride, 1, self.compute, dilation=self.dilation)
        cpu = partial(on_cpu.convolve, self.stride, self.compute, dilation=self.dilation)
        return by_platform(x, w, cpu=cpu, default=default)

    def apply(self, given: Float[Array, "r b t i"], weight: Float[Array, "k i o"]) -> Float[Array, "rb u o"]:
        return self.of_rows(given.reshape(-1, *given.shape[2:]), weight)

    def squared_norms(self, given: Float[Array, "r b t i"], grad: Float[Array, "r b u o"]) -> Float[Array, "r"]:
        last = (grad.shape[2] - 1) * self.stride + 1
        met = [
            given[:, :, start : start + last : self.stride]
            for start in range(0, self.taps * self.dilation, self.dilation)
        ]
        # Rounded like the operands of the gradient itself.
        frames, g = (a.astype(self.compute).astype(jnp.float32) for a in (jnp.concatenate(met, -1), grad))
        shaped = (a.reshape(len(a), -1, a.shape[-1]) for a in (frames, g))
        return ghost.outer_squared_norms(*shaped)


def conv_transpose1d(
    x: Float[Array, "b t i"], w: Float[Array, "k i o"], stride: int, compute: str = "float32"
) -> Float[Array, "b u o"]:
    """``y[s t + k] += x[t] @ w[k]``, float32, with u = s (t - 1) + k frames: PyTorch's ``conv_transpose1d``, uncropped.

    On every platform one product: s frames out are products of the same ceil(k / s) frames in.
    """
    (rows, frames, inputs), (taps, _, outputs) = x.shape, w.shape
    joined = -(-taps // stride)
    padded = jnp.pad(x, ((0, 0), (joined - 1, joined - 1), (0, 0)))
    blocks = frames + joined - 1
    # Taps j, j + stride, ... of a phase meet the frame itself, the one before, ...
    shifted = jnp.concatenate([padded[:, joined - 1 - j : joined - 1 - j + blocks] for j in range(joined)], -1)
    kernel = jnp.pad(w, ((0, joined * stride - taps), (0, 0), (0, 0))).reshape(joined, stride, inputs, outputs)
    kernel = kernel.swapaxes(1, 2).reshape(joined * inputs, stride * outputs)
    y = dot(shifted, kernel, compute).reshape(rows, blocks * stride, outputs)
    return y[:, : (frames - 1) * stride + taps]


def depthwise_conv1d(x: Float[Array, "b t d"], w: Float[Array, "k d"]) -> Float[Array, "b u d"]:
    """``y[u] = sum over k of x[u + k] * w[k]``, each channel for itself, with u = t - k + 1: no padding. float32."""
    default = lambda x, w: _convolution(1, w.shape[1], "float32", x, w[:, None])
    return by_platform(x, w, cpu=on_cpu.shifted_rows, default=default)


def grouped_conv1d(
    x: Float[Array, "b t d"], w: Float[Array, "k c o"], compute: str = "float32", block: int = 256
) -> Float[Array, "b u o"]:
    """A convolution whose outputs read the channels of their own group only: groups = d / c, u = t - k + 1.

    On a CPU, by Fourier transforms of overlapping blocks of at least ``block`` frames, in float32.
    """
    default = partial(_convolution, 1, x.shape[2] // w.shape[1], compute)
    return by_platform(x, w, cpu=partial(on_cpu.by_frequency, block), default=default)


def _convolution(stride: int, groups: int, compute: str, x: Array, w: Array, dilation: int = 1) -> Array:
    """XLA's convolution. In bfloat16 its result is, too, since its derivatives want one format throughout."""
    x, w = x.astype(compute), w.astype(compute)
    y = lax.conv_general_dilated(
        x,
        w,
        (stride,),
        "VALID",
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )
    return y.astype(jnp.float32)


class Conv1d(Computing):
    """A convolution over time with ``padding`` frames of zeros on either side.

    Attributes:
        kernel: (k, inputs, outputs).
        bias: (outputs,), zero at first; None where ``use_bias`` is False.
        stride, dilation: frames from one output to the next, and from one tap to the next; one of them is 1.
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
        dilation: int = 1,
        use_bias: bool = True,
        init: Callable[..., Any] = _LECUN,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (taps, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u o"]:
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        y = conv1d(x, self.kernel[...], self.stride, self.compute, self.dilation)
        return y if self.bias is None else y + self.bias[...]


class ConvTranspose1d(Computing):
    """`conv_transpose1d` with weights of its own, cropped to ``stride`` frames for each frame in: of what is beyond
    them, half at either end.

    Attributes:
        kernel: (k, inputs, outputs), k at least the stride.
        bias: (outputs,), zero at first.
        compute: format of the operands.
    """

    def __init__(self, inputs: int, outputs: int, taps: int, *, rngs: nnx.Rngs, stride: int):
        # Each frame out sums over taps / stride frames in.
        init = nnx.initializers.normal((inputs * max(taps // stride, 1)) ** -0.5)
        self.kernel = nnx.Param(init(rngs.params(), (taps, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,)))
        self.stride = stride
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u o"]:
        start = (self.kernel.shape[0] - self.stride) // 2
        y = conv_transpose1d(x, self.kernel[...], self.stride, self.compute)
        return y[:, start : start + x.shape[1] * self.stride] + self.bias[...]


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
