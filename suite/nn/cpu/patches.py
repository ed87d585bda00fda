"""Convolution over two axes as matrix products, and its derivatives: operands in float32 or bfloat16, sums in float32.

Dims: see `suite.nn.conv`.
"""

import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from suite.nn.cpu import windows
from suite.parallel.layout import portable

_FEW = 16
"""Up to this many input channels patches cost more than the product, and XLA's convolution is faster on a CPU too."""

Pads = tuple[tuple[int, int], tuple[int, int]]


def convolve(stride: int, padding: int, groups: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    """The convolution, in float32."""
    if groups > 1:
        return _grouped(stride, padding, groups, x, kernel)
    if kernel.shape[:2] == (1, 1) and not padding:
        return _dot(x[:, ::stride, ::stride], kernel[0, 0])
    return _correlate(x, kernel, stride, ((padding, padding), (padding, padding)))


def convolve_back(stride: int, padding: int, groups: int, x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    """Its derivatives by ``x`` and ``kernel``, in float32."""
    if groups > 1:
        x, kernel, grad = (a.astype(jnp.float32) for a in (x, kernel, grad))
        dx, dk = jax.vjp(partial(_grouped, stride, padding, groups), x, kernel)[1](grad)
        return dx, dk
    (rows, columns), (i, o) = kernel.shape[:2], kernel.shape[2:]
    met = _patches(x, (rows, columns), stride, ((padding, padding), (padding, padding)))
    dk = _outer(met, grad).reshape(rows, columns, -1, o)[:, :, :i]
    return _spread(stride, padding, x.shape, kernel, grad), dk


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
    if taps == (1, 1):
        return x[:, ::stride, ::stride]
    word = jnp.uint32 if pairs or dtype == jnp.float32 else jnp.uint16
    words = windows.computed(lax.bitcast_convert_type(x.reshape(*x.shape[:3], -1, 2) if pairs else x, word))
    met, size = jnp.zeros((), word), taps[0] * taps[1] * words.shape[3]
    for n, there in enumerate(windows.met(words, taps, stride)):
        at = n * words.shape[3]
        met |= lax.pad(there, word(0), ((0, 0, 0),) * 3 + ((at, size - at - words.shape[3], 0),))
    met = windows.computed(met) if dtype == jnp.bfloat16 else met
    return lax.bitcast_convert_type(met, dtype).reshape(*met.shape[:3], -1)


def _correlate(x: Array, kernel: Array, stride: int, pads: Pads) -> Float[Array, "b y x o"]:
    if x.dtype == jnp.float32 or x.shape[3] <= _FEW:
        x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    met = _patches(x, kernel.shape[:2], stride, pads)
    return _dot(met, _even(kernel).reshape(-1, kernel.shape[3]))


def _even(kernel: Array) -> Array:
    """A kernel for an even number of channels, as `_patches` has them."""
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), ((0, 0, 0), (0, 0, 0), (0, kernel.shape[2] % 2, 0), (0, 0, 0)))


def _spread(stride: int, padding: int, shape: tuple[int, ...], kernel: Array, grad: Array) -> Float[Array, "b h w i"]:
    """The gradient by the input. Of a strided convolution each of the s x s interleaved grids of places met its own
    taps of the kernel alone, and is a convolution of its own, without stride.
    """
    b, height, width, i = shape
    grids = [
        [_grid(stride, padding, (height, width), kernel, grad, (q, r)) for r in range(stride)] for q in range(stride)
    ]
    if stride == 1:
        return grids[0][0]
    whole = windows.woven(grids)
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


def _grouped(stride: int, padding: int, groups: int, x: Array, kernel: Array) -> Float[Array, "b y x o"]:
    """One batched product over groups, in float32: XLA's CPU backend has no batched form of other operands.

    Where each channel is a group of its own there is nothing to sum over but the taps: XLA makes one loop of it.
    """
    rows, columns, i, o = kernel.shape
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    if i == 1 and o == groups:
        met = windows.met(x, (rows, columns), stride)
        return functools.reduce(jnp.add, [a * tap for a, tap in zip(met, kernel.reshape(-1, o), strict=True)])
    window = jnp.stack(windows.met(x, (rows, columns), stride), 3)
    window = window.reshape(*window.shape[:4], groups, i)
    weights = kernel.reshape(rows * columns, i, groups, o // groups)
    return jnp.einsum("byxtgi,tigo->byxgo", window, weights).reshape(*window.shape[:3], o)
