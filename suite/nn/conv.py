"""Convolution over two axes, in one place: which form it is computed in depends on the platform.

On accelerators it is XLA's convolution, with bfloat16 operands and a float32 result where the precision says so. On a
CPU that operation has no bfloat16 form and a slow gradient (3 to 4 times the time of oneDNN), so there a convolution is
a sum of matrix products: the shifted copies of the input that one row of the kernel meets lie side by side along the
channels, and each row of the kernel is one product with them. The derivatives are sums of products of the same kind,
hence the custom rule, as in `suite.nn.dot`.

Dims: b images, h w height and width of the input, y x those of the output, p q those of the kernel, i inputs,
o outputs (channels), s stride, g groups.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn.dot import Computing

_FEW = 16
"""Below this many input channels all taps of the kernel make one product: those of one row would be too narrow."""
_HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "p q i/g o"],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    compute: str = "float32",
) -> Float[Array, "b y x o"]:
    """Cross-correlation of ``x``, padded by ``padding`` zeros on every side, with ``kernel``, at every ``stride``-th
    place; the geometry of PyTorch's ``conv2d``. The result is float32.

    With ``compute="bfloat16"`` operands are rounded to bfloat16, forward and backward, and every sum is float32;
    derivatives have the formats of ``x`` and ``kernel``.

    Args:
        x: images or feature maps.
        kernel: weights; the output channels of group n read the input channels of group n.
        stride: along both axes.
        padding: along both axes.
        groups: a divisor of both numbers of channels.
        compute: format of the operands, ``"float32"`` or ``"bfloat16"``.
    """
    if kernel.shape[:2] == (1, 1) and groups == 1 and padding == 0:
        x = x[:, ::stride, ::stride] if stride > 1 else x
        stride = 1
    return _conv(stride, padding, groups, compute, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _conv(stride: int, padding: int, groups: int, compute: str, x: Array, kernel: Array) -> Array:
    return _forward(stride, padding, groups, compute, x, kernel)[0]


def _forward(stride: int, padding: int, groups: int, compute: str, x: Array, kernel: Array) -> tuple[Array, tuple]:
    a, k = x.astype(compute), kernel.astype(compute)
    on_cpu = partial(_products if groups == 1 else partial(_grouped, groups), stride, padding)
    made = lax.platform_dependent(a, k, cpu=on_cpu, default=partial(_convolution, stride, padding, groups))
    return made, (a, k, jnp.zeros((0,), x.dtype), jnp.zeros((0,), kernel.dtype))


def _backward(stride: int, padding: int, groups: int, compute: str, kept: tuple, grad: Array) -> tuple[Array, Array]:
    a, k, x, kernel = kept
    on_cpu = partial(_products_back if groups == 1 else partial(_grouped_back, groups), stride, padding)
    elsewhere = partial(_convolution_back, stride, padding, groups)
    dx, dk = lax.platform_dependent(a, k, grad.astype(compute), cpu=on_cpu, default=elsewhere)
    return dx.astype(x.dtype), dk.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)


def _size(length: int, taps: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - taps) // stride + 1


# As a sum of matrix products


def _dot(x: Array, w: Array) -> Array:
    return lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _outer(a: Array, b: Array) -> Array:
    """The sum over all leading axes of a (..., i) times b (..., o), in float32, as two halves: see `suite.nn.dot`."""
    halves = 2 if a.size // a.shape[-1] % 2 == 0 else 1
    a, b = a.reshape(halves, -1, a.shape[-1]), b.reshape(halves, -1, b.shape[-1])
    return lax.dot_general(a, b, (((0, 1), (0, 1)), ((), ())), preferred_element_type=jnp.float32)


def _windows(x: Array, taps: tuple[int, int], stride: int, pads: Pads) -> list[Array]:
    """What the rows of a kernel of ``taps`` meet: (b, y, x, q i) for each of p rows, or all in one (b, y, x, p q i).

    A row's taps are consecutive in the last axis. Negative padding cuts.
    """
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
    (rows, columns), (b, h, w, i) = taps, x.shape
    last_row, last_column = (h - rows) // stride * stride + 1, (w - columns) // stride * stride + 1
    side = [lax.slice(x, (0, 0, c, 0), (b, h, c + last_column, i), (1, 1, stride, 1)) for c in range(columns)]
    # The barriers keep XLA from computing what produced x, or the copies, once for each use.
    beside = lax.optimization_barrier(jnp.concatenate(side, -1)) if columns > 1 else side[0]
    met = [lax.slice(beside, (0, r, 0, 0), (b, r + last_row, *beside.shape[2:]), (1, stride, 1, 1))
           for r in range(rows)]  # fmt: skip
    return [jnp.concatenate(met, -1)] if i < _FEW and rows > 1 else met


def _correlate(x: Array, kernel: Array, stride: int, pads: Pads) -> Float[Array, "b y x o"]:
    met = _windows(x, kernel.shape[:2], stride, pads)
    parts = kernel.reshape(len(met), -1, kernel.shape[3])
    total = _dot(met[0], parts[0])
    for window, part in zip(met[1:], parts[1:], strict=True):
        total = total + _dot(window, part)
    return total


def _products(stride: int, padding: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    return _correlate(x, kernel, stride, ((padding, padding), (padding, padding)))


def _products_back(stride: int, padding: int, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    pads = ((padding, padding), (padding, padding))
    met = _windows(x, kernel.shape[:2], stride, pads)
    dk = jnp.stack([_outer(window, grad) for window in met])
    return _spread(stride, padding, x.shape, kernel, grad), dk.reshape(kernel.shape)


def _spread(stride: int, padding: int, shape: tuple[int, ...], kernel: Array, grad: Array) -> Float[Array, "b h w i"]:
    """The gradient by the input. Of a strided convolution each of the s x s interleaved grids of places met its own
    taps of the kernel alone, and is a convolution of its own, without stride.
    """
    b, height, width, i = shape
    grids = [[_grid(stride, padding, (height, width), kernel, grad, (q, r)) for r in range(stride)]
             for q in range(stride)]  # fmt: skip
    if stride == 1:
        return grids[0][0]
    whole = jnp.stack([jnp.stack(row, 3) for row in grids], 2)  # b, places, q, places, r, i
    return whole.reshape(b, whole.shape[1] * stride, whole.shape[3] * stride, i)[:, :height, :width]


def _grid(stride: int, padding: int, size: tuple[int, int], kernel: Array, grad: Array, at: tuple[int, int]) -> Array:
    """The gradient by the inputs at ``at``, ``at + stride``, ... of each axis."""
    starts, pads = [], []
    for axis in (0, 1):
        start = (at[axis] + padding) % stride
        taps = len(range(start, kernel.shape[axis], stride))
        low = taps - 1 - (at[axis] + padding - start) // stride
        starts.append(start)
        pads.append((low, -(-size[axis] // stride) + taps - 1 - grad.shape[1 + axis] - low))
    part = kernel[starts[0] :: stride, starts[1] :: stride][::-1, ::-1].swapaxes(2, 3)
    if not part.size:  # the kernel is smaller than the stride, and never looks here
        return jnp.zeros((grad.shape[0], *(-(-n // stride) for n in size), kernel.shape[2]), jnp.float32)
    return _correlate(grad, part, 1, (pads[0], pads[1]))


def _grouped(groups: int, stride: int, padding: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    """One batched product over groups, in float32: XLA's CPU backend has no batched form of other operands."""
    rows, columns, i, o = kernel.shape
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    met = _windows(x, (rows, columns), stride, ((padding, padding), (padding, padding)))
    window = jnp.stack([part.reshape(*part.shape[:3], -1, groups, i) for part in met], 3)
    window = window.reshape(*window.shape[:3], rows * columns, groups, i)
    weights = kernel.reshape(rows * columns, i, groups, o // groups)
    return jnp.einsum("byxtgi,tigo->byxgo", window, weights).reshape(*window.shape[:3], o)


def _grouped_back(groups: int, stride: int, padding: int, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    x, kernel, grad = (a.astype(jnp.float32) for a in (x, kernel, grad))
    dx, dk = jax.vjp(partial(_grouped, groups, stride, padding), x, kernel)[1](grad)
    return dx, dk


# As XLA's convolution


def _convolution(stride: int, padding: int, groups: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups, preferred_element_type=jnp.float32,
    )  # fmt: skip


def _convolution_back(
    stride: int, padding: int, groups: int, x: Array, kernel: Array, grad: Array
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
        grad, flipped, (1, 1), by_x, (stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups, preferred_element_type=jnp.float32,
    )  # fmt: skip
    dk = lax.conv_general_dilated(
        x, grad, (1, 1), by_kernel, None, (stride, stride), dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups, preferred_element_type=jnp.float32,
    )  # fmt: skip
    return dx, dk


class Conv(Computing):
    """`conv2d` with weights of its own.

    Attributes:
        kernel: (size, size, inputs / groups, outputs), normal with variance 2 / fan-out at first
            (`He et al., 2015 <https://arxiv.org/abs/1502.01852>`_).
        bias: (outputs,), zero at first; None where ``use_bias`` is False.
        stride, padding, groups: see `conv2d`.
        compute: format of the operands.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        use_bias: bool = False,
    ):
        """``padding`` None: ``size // 2``, which keeps height and width where the stride is 1 and the size odd."""
        self.kernel = nnx.Param(_HE(rngs.params(), (size, size, inputs // groups, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.stride = stride
        self.padding = size // 2 if padding is None else padding
        self.groups = groups
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        y = conv2d(x, self.kernel[...], self.stride, self.padding, self.groups, self.compute)
        return y if self.bias is None else y + self.bias[...]


def max_pool(x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0) -> Float[Array, "b y x c"]:
    """The largest value of each window, which padding never is."""
    return nnx.max_pool(x, (size, size), (stride, stride), ((padding, padding),) * 2)
