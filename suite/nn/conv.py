"""Convolution over two axes, in one place: which form it is computed in depends on the platform.

On accelerators it is XLA's convolution, with bfloat16 operands where the precision says so. On a CPU that operation has
no bfloat16 form, and is slow by the kernel's gradient. So there oneDNN convolves where it is installed
(`suite.nn.onednn`) and the program is for this process's one device. Otherwise a bfloat16 convolution is one matrix
product with the patches of the input that the kernel meets, laid side by side along the channels, and the kernel's
gradient is such a product in both formats. The derivatives are written out, hence the custom rule, as in
`suite.nn.dot`.

Dims: b images, h w height and width of the input, y x those of the output, p q those of the kernel, i inputs,
o outputs (channels), s stride, g groups.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from suite.nn import onednn
from suite.nn.dot import Computing
from suite.nn.layout import only_here, portable

_FEW = 16
"""Up to this many input channels patches cost more than the product, and XLA's convolution is faster on a CPU too."""
_HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

Pads = tuple[tuple[int, int], tuple[int, int]]


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
    return _conv(_place(x, kernel, stride, padding, groups, compute, result), x, kernel)


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
        on_cpu = self._on_cpu()[0]
        elsewhere = partial(_convolution, *self.about)
        return lax.platform_dependent(x, kernel, cpu=lambda *of: on_cpu(*of).astype(self.result), default=elsewhere)

    def convolve_back(self, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        """Its derivatives."""
        on_cpu = self._on_cpu()[1]
        elsewhere = partial(_convolution_back, *self.about)

        def rounded(*of: Array) -> tuple[Array, Array]:
            dx, dk = on_cpu(*of)
            return dx.astype(self.result), dk

        return lax.platform_dependent(x, kernel, grad, cpu=rounded, default=elsewhere)

    def _on_cpu(self) -> tuple[Callable[..., Array], Callable[..., tuple[Array, Array]]]:
        if self.by_library:
            return partial(onednn.convolve, *self.about), partial(onednn.convolve_back, *self.about)
        if self.groups == 1:
            return partial(_products, self.stride, self.padding), partial(_products_back, self.stride, self.padding)
        grouped = self.groups, self.stride, self.padding
        return partial(_grouped, *grouped), partial(_grouped_back, *grouped)


def by_library(x: Array, kernel: Array, stride: int = 1, padding: int = 0, groups: int = 1, compute: str = "float32",
               result: str = "float32") -> bool:  # fmt: skip
    """Whether oneDNN computes this `conv2d` on a CPU."""
    return only_here() and onednn.convolves(x, kernel, stride, padding, groups, compute, result)


def _place(x: Array, kernel: Array, stride: int, padding: int, groups: int, compute: str, result: str) -> _Place:
    found = by_library(x, kernel, stride, padding, groups, compute, result)
    return _Place(stride, padding, groups, compute, result, found)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(place: _Place, x: Array, kernel: Array) -> Array:
    return _forward(place, x, kernel)[0]


def _forward(place: _Place, x: Array, kernel: Array) -> tuple[Array, tuple]:
    a, k = x.astype(place.compute), kernel.astype(place.compute)
    return place.convolve(a, k), (a, k, jnp.zeros((0,), x.dtype), jnp.zeros((0,), kernel.dtype))


def _backward(place: _Place, kept: tuple, grad: Array) -> tuple[Array, Array]:
    a, k, x, kernel = kept
    dx, dk = place.convolve_back(a, k, grad.astype(place.compute))
    return dx.astype(x.dtype), dk.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)


def _step_by_step(place: _Place, relu: bool, x: Array, kernel: Array, scale: Array, shift: Array,
                  added: Array | None) -> Array:  # fmt: skip
    return finish(_conv(place, x, kernel) * scale + shift, added, relu).astype(place.result)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _finished(place: _Place, relu: bool, x: Array, kernel: Array, scale: Array, shift: Array,
              added: Array | None) -> Array:  # fmt: skip
    each = partial(_step_by_step, place, relu)
    if not place.by_library:
        return each(x, kernel, scale, shift, added)

    def at_once(x: Array, kernel: Array, scale: Array, shift: Array, added: Array | None) -> Array:
        x, kernel = x.astype(place.compute), kernel.astype(place.compute)
        added = added if added is None else added.astype(place.result)
        return onednn.convolve_finished(*place.about, relu, x, kernel, scale, shift, added)

    return lax.platform_dependent(x, kernel, scale, shift, added, cpu=at_once, default=each)


def _finished_forward(place: _Place, relu: bool, *operands: Array) -> tuple[Array, Callable]:
    return jax.vjp(partial(_step_by_step, place, relu), *operands)


def _finished_back(place: _Place, relu: bool, pull: Callable, grad: Array) -> tuple:
    return pull(grad)


_finished.defvjp(_finished_forward, _finished_back)


def _size(length: int, taps: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - taps) // stride + 1


def _met(x: Array, taps: tuple[int, int], stride: int) -> list[Array]:
    """What each place of a window meets, (b, y, x, c) each; ``x`` is padded already."""
    y, z = (_size(n, size, stride, 0) for n, size in zip(x.shape[1:3], taps, strict=True))
    return [x[:, p : p + (y - 1) * stride + 1 : stride, q : q + (z - 1) * stride + 1 : stride]
            for p, q in np.ndindex(*taps)]  # fmt: skip


def _woven(grids: list[list[Array]]) -> Array:
    """Grids of every s-th place, (b, y, x, c) each, by the place they begin at -> (b, y, s, x, s, c)."""
    return jnp.stack([jnp.stack(row, 3) for row in grids], 2)


# As a sum of matrix products


def _dot(x: Array, w: Array) -> Array:
    return lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _outer(patches: Float[Array, "b y x n"], grad: Float[Array, "b y x o"]) -> Float[Array, "n o"]:
    """The sum over all places of each patch times the gradient there, in float32.

    The narrow operand stands first and places come in eight parts: both are faster than the plain product. The barrier
    keeps XLA from turning the product round, which has no bfloat16 form.
    """
    parts = math.gcd(grad.size // grad.shape[-1], 8)
    a, b = grad.reshape(parts, -1, grad.shape[-1]), patches.reshape(parts, -1, patches.shape[-1])
    product = lax.dot_general(a, b, (((0, 1), (0, 1)), ((), ())), preferred_element_type=jnp.float32)
    return lax.optimization_barrier(product).T


def _patches(x: Float[Array, "b h w i"], taps: tuple[int, int], stride: int, pads: Pads) -> Float[Array, "b y x p*q*i"]:
    """What a kernel of ``taps`` meets at each place. Negative padding cuts.

    XLA copies element by element on a CPU. So two channels of 16 bits travel as one of 32, and the patches are what is
    padded to its place, added up bit by bit, which takes a third of the time of concatenating. Not so in a program for
    any number of rows: JAX cannot settle the shape of such words there.
    """
    dtype, pairs = x.dtype, x.dtype == jnp.bfloat16 and not portable()
    x = lax.pad(x, jnp.zeros((), dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, x.shape[3] % 2, 0)))
    b, h, w, i = x.shape
    y, z = (h - taps[0]) // stride + 1, (w - taps[1]) // stride + 1
    if taps == (1, 1):
        return x[:, ::stride, ::stride]
    word = jnp.uint32 if pairs or dtype == jnp.float32 else jnp.uint16
    words = _computed(lax.bitcast_convert_type(x.reshape(b, h, w, i // 2, 2) if pairs else x, word))
    met, size = jnp.zeros((), word), taps[0] * taps[1] * words.shape[3]
    for n, there in enumerate(_met(words, taps, stride)):
        at = n * words.shape[3]
        met |= lax.pad(there, word(0), ((0, 0, 0),) * 3 + ((at, size - at - words.shape[3], 0),))
    met = _computed(met) if dtype == jnp.bfloat16 else met
    return lax.bitcast_convert_type(met, dtype).reshape(b, y, z, -1)


def _computed(made: Array) -> Array:
    """``made``, computed before its use. XLA would compute what produced it once for each patch it is in, since that
    looks cheap to it, and its barriers are gone when it decides. It doesn't look into a branch, though never taken.
    """
    return lax.cond(made.reshape(-1)[0] == made.dtype.type(0x7FAB), lambda made: made + 0, lambda made: made, made)


def _correlate(x: Array, kernel: Array, stride: int, pads: Pads) -> Float[Array, "b y x o"]:
    if x.dtype == jnp.float32 or x.shape[3] <= _FEW:
        x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    met = _patches(x, kernel.shape[:2], stride, pads)
    return _dot(met, _even(kernel).reshape(-1, kernel.shape[3]))


def _even(kernel: Array) -> Array:
    """A kernel for an even number of channels, as `_patches` has them."""
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), ((0, 0, 0), (0, 0, 0), (0, kernel.shape[2] % 2, 0), (0, 0, 0)))


def _products(stride: int, padding: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    if kernel.shape[:2] == (1, 1) and not padding:
        return _dot(x[:, ::stride, ::stride], kernel[0, 0])
    return _correlate(x, kernel, stride, ((padding, padding), (padding, padding)))


def _products_back(stride: int, padding: int, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    (rows, columns), (i, o) = kernel.shape[:2], kernel.shape[2:]
    met = _patches(x, (rows, columns), stride, ((padding, padding), (padding, padding)))
    dk = _outer(met, grad).reshape(rows, columns, -1, o)[:, :, :i]
    return _spread(stride, padding, x.shape, kernel, grad), dk


def _spread(stride: int, padding: int, shape: tuple[int, ...], kernel: Array, grad: Array) -> Float[Array, "b h w i"]:
    """The gradient by the input. Of a strided convolution each of the s x s interleaved grids of places met its own
    taps of the kernel alone, and is a convolution of its own, without stride.
    """
    b, height, width, i = shape
    grids = [[_grid(stride, padding, (height, width), kernel, grad, (q, r)) for r in range(stride)]
             for q in range(stride)]  # fmt: skip
    if stride == 1:
        return grids[0][0]
    whole = _woven(grids)
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
    (rows, columns, i, o), (b, h, w) = kernel.shape, x.shape[:3]
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y, z = _size(h, rows, stride, padding), _size(w, columns, stride, padding)
    window = jnp.stack(_met(x, (rows, columns), stride), 3).reshape(b, y, z, rows * columns, groups, i)
    weights = kernel.reshape(rows * columns, i, groups, o // groups)
    return jnp.einsum("byxtgi,tigo->byxgo", window, weights).reshape(b, y, z, o)


def _grouped_back(groups: int, stride: int, padding: int, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    x, kernel, grad = (a.astype(jnp.float32) for a in (x, kernel, grad))
    dx, dk = jax.vjp(partial(_grouped, groups, stride, padding), x, kernel)[1](grad)
    return dx, dk


# As XLA's convolution


def _convolution(stride: int, padding: int, groups: int, result: str, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups, preferred_element_type=result,
    )  # fmt: skip


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
        grad, flipped, (1, 1), by_x, (stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups, preferred_element_type=result,
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
        narrow: what it returns has that format too.
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
        narrow: bool = False,
    ):
        """``padding`` None: ``size // 2``, which keeps height and width where the stride is 1 and the size odd."""
        self.kernel = nnx.Param(_HE(rngs.params(), (size, size, inputs // groups, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if use_bias else None
        self.stride = stride
        self.padding = size // 2 if padding is None else padding
        self.groups = groups
        self.narrow = narrow
        self.compute = "float32"

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        y = conv2d(x, self.kernel[...], self.stride, self.padding, self.groups, self.compute, self._result)
        return y if self.bias is None else y + self.bias[...]

    def finished(
        self, x: Float[Array, "b h w i"], scale: Float[Array, "o"], shift: Float[Array, "o"],
        added: Float[Array, "b y x o"] | None, relu: bool,
    ) -> Float[Array, "b y x o"]:  # fmt: skip
        """This convolution without its bias, in `conv2d_finished`."""
        return conv2d_finished(x, self.kernel[...], scale, shift, added, self.stride, self.padding, self.groups,
                               self.compute, self._result, relu)  # fmt: skip

    @property
    def _result(self) -> str:
        return self.compute if self.narrow else "float32"


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0) -> Float[Array, "b y x c"]:
    """The largest value of each window, which padding never is. Of several its gradient goes to the first.

    Written out by the places in a window, derivative too: XLA's CPU backend looks for the largest value of each window
    again to spread a gradient, value by value, which takes some forty times as long.
    """
    return reduce(jnp.maximum, _pooled(x, size, stride, padding))


def _pooled(x: Array, size: int, stride: int, padding: int) -> list[Array]:
    """What each place of the windows meets."""
    around = (padding, padding, 0)
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), around, around, (0, 0, 0)))
    return _met(x, (size, size), stride)


def _max_pool_forward(x: Array, size: int, stride: int, padding: int) -> tuple[Array, tuple]:
    largest, *others = _pooled(x, size, stride, padding)
    place = jnp.zeros(largest.shape, jnp.uint8)
    for n, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.uint8(n), place)
        largest = jnp.maximum(largest, other)
    return largest, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _max_pool_back(size: int, stride: int, padding: int, kept: tuple, grad: Array) -> tuple[Array]:
    """As `_spread`: each of the interleaved grids of inputs is met by some places of the windows alone."""
    place, like = kept
    (h, w), (y, x) = like.shape[1:], grad.shape[1:3]
    high, wide = (-(-(n + 2 * padding) // stride) for n in (h, w))
    grad = grad.astype(jnp.float32)

    def grid(r: int, s: int) -> Array:
        total = jnp.zeros((grad.shape[0], high, wide, grad.shape[3]))
        for p, q in product(range(r, size, stride), range(s, size, stride)):
            down, right = p // stride, q // stride
            around = (0, 0, 0), (down, high - y - down, 0), (right, wide - x - right, 0), (0, 0, 0)
            total += lax.pad(jnp.where(place == p * size + q, grad, 0), jnp.float32(0), around)
        return total

    whole = _woven([[grid(r, s) for s in range(stride)] for r in range(stride)])
    words = _computed(lax.bitcast_convert_type(whole, jnp.uint32))
    whole = lax.bitcast_convert_type(words, jnp.float32)
    whole = whole.reshape(grad.shape[0], high * stride, wide * stride, grad.shape[3])
    return (whole[:, padding : padding + h, padding : padding + w].astype(like.dtype),)


max_pool.defvjp(_max_pool_forward, _max_pool_back)
