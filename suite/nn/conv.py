"""Convolution over two axes: XLA's, with bfloat16 operands where the precision says so.

On a CPU that operation has no bfloat16 form, and is slow by the kernel's gradient, so there `suite.nn.cpu.conv` has
faster ones. The derivatives are written out, hence the custom rule, as in `suite.nn.dot`.

Dims: b images, h w height and width of the input, y x those of the output, p q those of the kernel, i inputs,
o outputs (channels), s stride, g groups, r records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn import ghost
from suite.nn.cpu import conv as on_cpu
from suite.nn.cpu import windows
from suite.nn.cpu.switch import by_library, by_platform
from suite.nn.dot import Computing

_HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "p q i/g o"],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    compute: str = "float32",
    result: str = "float32",
) -> Float[Array, "b y x o"]:
    """Cross-correlation of ``x``, padded by ``padding`` zeros on every side, with ``kernel``, at every ``stride``-th
    place; the geometry of PyTorch's ``conv2d``.

    With ``compute="bfloat16"`` operands are rounded to bfloat16, forward and backward, and every sum is float32;
    derivatives have the formats of ``x`` and ``kernel``.

    Args:
        x: images or feature maps.
        kernel: weights; the output channels of group n read the input channels of group n.
        stride: along both axes.
        padding: along both axes.
        groups: a divisor of both numbers of channels.
        compute: format of the operands, ``"float32"`` or ``"bfloat16"``.
        result: format of what it returns, and to which the gradient by ``x`` is rounded: ``"float32"``, or that of the
            operands, which halves what the maps of a network weigh.
    """
    y = _conv(_place(x, kernel, stride, padding, groups, compute, result), x, kernel)
    if groups > 1:
        return y
    taps = (kernel.shape[0], kernel.shape[1])
    return ghost.reported(_Convolution(taps, stride, padding, compute, result), x, kernel, y)


def conv2d_finished(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "p q i/g o"],
    scale: Float[Array, "o"],
    shift: Float[Array, "o"],
    added: Float[Array, "b y x o"] | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    compute: str = "float32",
    result: str = "float32",
    relu: bool = False,
) -> Float[Array, "b y x o"]:
    """`conv2d` times ``scale`` plus ``shift``, as a norm that has learned makes it, plus ``added``, and the ReLU of it
    all: one operation where oneDNN computes it, as long as nobody asks for a derivative.
    """
    place = _place(x, kernel, stride, padding, groups, compute, result)
    return _finished(place, relu, x, kernel, scale, shift, added)


def finish(y: Float[Array, "b y x o"], added: Float[Array, "b y x o"] | None, relu: bool) -> Float[Array, "b y x o"]:
    """``y`` plus ``added``, and the ReLU of it."""
    y = y if added is None else y + added
    return jax.nn.relu(y) if relu else y


@dataclass(frozen=True)
class _Convolution(ghost.Product):
    """`conv2d` of one group: a matrix product of the kernel with the patches that it meets."""

    taps: tuple[int, int]
    stride: int
    padding: int
    compute: str
    result: str

    def apply(self, given: Float[Array, "r b h w i"], weight: Float[Array, "p q i o"]) -> Float[Array, "rb y x o"]:
        x = given.reshape(-1, *given.shape[2:])
        return conv2d(x, weight, self.stride, self.padding, 1, self.compute, self.result)

    def squared_norms(self, given: Float[Array, "r b h w i"], grad: Float[Array, "r b y x o"]) -> Float[Array, "r"]:
        records, around = len(given), (self.padding, self.padding)
        x = jnp.pad(given.reshape(-1, *given.shape[2:]), ((0, 0), around, around, (0, 0)))
        met = jnp.concatenate(windows.met(x, self.taps, self.stride), -1)
        # Rounded like the operands of the gradient itself.
        patches, g = (a.astype(self.compute).astype(jnp.float32) for a in (met, grad))
        shaped = (a.reshape(records, -1, a.shape[-1]) for a in (patches, g))
        return ghost.outer_squared_norms(*shaped)


class _Place(NamedTuple):
    """What a convolution is, but for its operands, and whether oneDNN computes it on a CPU."""

    stride: int
    padding: int
    groups: int
    compute: str
    result: str
    by_library: bool

    @property
    def about(self) -> tuple[int, int, int, str]:
        """What any form of it needs to know."""
        return self.stride, self.padding, self.groups, self.result

    def convolve(self, x: Array, kernel: Array) -> Array:
        """The convolution of operands in the format of computing."""
        cpu = partial(on_cpu.convolve, self.by_library, *self.about)
        return by_platform(x, kernel, cpu=cpu, default=partial(_convolution, *self.about))

    def convolve_back(self, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        """Its derivatives."""
        cpu = partial(on_cpu.convolve_back, self.by_library, *self.about)
        return by_platform(x, kernel, grad, cpu=cpu, default=partial(_convolution_back, *self.about))


def _place(x: Array, kernel: Array, stride: int, padding: int, groups: int, compute: str, result: str) -> _Place:
    library = by_library(x, kernel, stride, padding, groups, compute, result)
    return _Place(stride, padding, groups, compute, result, library)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(place: _Place, x: Array, kernel: Array) -> Array:
    return _forward(place, x, kernel)[0]


def _forward(place: _Place, x: Array, kernel: Array) -> tuple[Array, tuple]:
    a, k = x.astype(place.compute), kernel.astype(place.compute)
    return place.convolve(a, k), (a, k, jnp.zeros((0,), x.dtype), jnp.zeros((0,), kernel.dtype))


def _backward(place: _Place, residuals: tuple, grad: Array) -> tuple[Array, Array]:
    a, k, x, kernel = residuals
    dx, dk = place.convolve_back(a, k, grad.astype(place.compute))
    return dx.astype(x.dtype), dk.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)


def _step_by_step(
    place: _Place, relu: bool, x: Array, kernel: Array, scale: Array, shift: Array, added: Array | None
) -> Array:
    return finish(_conv(place, x, kernel) * scale + shift, added, relu).astype(place.result)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _finished(
    place: _Place, relu: bool, x: Array, kernel: Array, scale: Array, shift: Array, added: Array | None
) -> Array:
    steps = partial(_step_by_step, place, relu)
    if not place.by_library:
        return steps(x, kernel, scale, shift, added)
    cpu = partial(on_cpu.convolve_finished, *place.about, relu, place.compute)
    return by_platform(x, kernel, scale, shift, added, cpu=cpu, default=steps)


def _finished_forward(place: _Place, relu: bool, *operands: Array) -> tuple[Array, Callable]:
    return jax.vjp(partial(_step_by_step, place, relu), *operands)


def _finished_back(place: _Place, relu: bool, pull: Callable, grad: Array) -> tuple:
    return pull(grad)


_finished.defvjp(_finished_forward, _finished_back)


# As XLA's convolution


def _convolution(stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=result,
    )


def _convolution_back(
    stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array, grad: Array
) -> tuple[Array, Array]:
    """JAX's own rule would mix the float32 gradient with bfloat16 operands, so both transposes are written out."""
    rows, columns, i, o = kernel.shape
    by_x, by_kernel = [], []
    for axis, taps in ((1, rows), (2, columns)):
        reach = (grad.shape[axis] - 1) * stride  # from the first place a tap meets to its last
        low = taps - 1 - padding
        by_x.append((low, x.shape[axis] - reach - low + taps - 2))
        by_kernel.append((padding, reach + taps - x.shape[axis] - padding))
    flipped = kernel[::-1, ::-1].reshape(rows, columns, i, groups, o // groups)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(rows, columns, o // groups, groups * i)
    dx = lax.conv_general_dilated(
        grad,
        flipped,
        (1, 1),
        by_x,
        (stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=result,
    )
    dk = lax.conv_general_dilated(
        x,
        grad,
        (1, 1),
        by_kernel,
        None,
        (stride, stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
        preferred_element_type=jnp.float32,
    )
    return dx, dk


class Conv(Computing):
    """`conv2d` with weights of its own.

    Attributes:
        kernel: (height, width, inputs / groups, outputs), normal with variance 2 / fan-out at first
            (`He et al., 2015 <https://arxiv.org/abs/1502.01852>`_).
        bias: (outputs,), zero at first; None where ``use_bias`` is False.
        stride, padding, groups: see `conv2d`.
        compute: format of the operands.
        narrow: what it returns has that format too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        use_bias: bool = False,
        narrow: bool = False,
    ):
        """``size`` is the kernel's side, or its height and width. ``padding`` None: half the height, which keeps height
        and width where the stride is 1 and the kernel a square of an odd side."""
        size = (size, size) if isinstance(size, int) else size
        self.kernel = nnx.Param(_HE(rngs.params(), (*size, inputs // groups, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.stride = stride
        self.padding = size[0] // 2 if padding is None else padding
        self.groups = groups
        self.narrow = narrow
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        y = conv2d(x, self.kernel[...], self.stride, self.padding, self.groups, self.compute, self._result)
        return y if self.bias is None else y + self.bias[...]

    def finished(
        self,
        x: Float[Array, "b h w i"],
        scale: Float[Array, "o"],
        shift: Float[Array, "o"],
        added: Float[Array, "b y x o"] | None,
        relu: bool,
    ) -> Float[Array, "b y x o"]:
        """This convolution without its bias, in `conv2d_finished`."""
        return conv2d_finished(
            x,
            self.kernel[...],
            scale,
            shift,
            added,
            self.stride,
            self.padding,
            self.groups,
            self.compute,
            self._result,
            relu,
        )

    @property
    def _result(self) -> str:
        return self.compute if self.narrow else "float32"
