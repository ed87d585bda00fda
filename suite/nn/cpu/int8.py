"""Products and convolutions with int8 on a CPU: which form is the fastest depends on the rows.

To read and widen the matrix (XLA's backend of jaxlib 0.10) takes as long as the product of a few dozen rows. So with
few rows integers are multiplied as such, each float input being two of them, and with many rows all is bfloat16: an
integer of 8 bits is exact in it, and so is the product of two in float32, where sums stay exact up to 2^24.

Dims: see `suite.nn.quant.int8`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, BFloat16, Float, Int8

from suite.nn.conv import conv2d
from suite.nn.cpu.choice import by_size
from suite.nn.dot import dot, dot_integers
from suite.nn.quant.rounding import step

PAIRS = 16
"""Rows of inputs up to which a CPU takes each input as two integers."""
SMALL = 2**16
"""Weights up to which such a product is float32 instead: it is over before inputs would be rounded."""
FEW = 64
"""Rows of integers up to which a CPU multiplies them as such."""
LONG = 1024
"""A CPU is faster with sums of at most so many bfloat16 products, one after the other."""
THIN = 32
"""Input channels up to which a CPU convolves in float32."""
_SECOND = 256
"""Weight of the first integer of a pair; the second is the remainder, between -128 and 127."""


def weight_dot(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of floats and integers."""
    return by_size(_rows(x), PAIRS, plain if w.size <= SMALL else pairs, as_widened)(x, w)


def integer_dot(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers."""
    return by_size(_rows(x), FEW, of_two(dot_integers), as_bfloat16)(x, w)


def bfloat16_dot(x: Float[Array, "... i"], w: BFloat16[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16."""
    return of_two(partial(_in_parts, lambda part: part))(x, w)


def weight_conv(stride: int, padding: int, groups: int, x: Array, w: Array) -> Float[Array, "b y x o"]:
    """`suite.nn.quant.int8.weight_conv`; few channels in float32."""
    return convolved(stride, padding, groups, "float32" if w.shape[2] <= THIN else "bfloat16", x, w)


def integer_conv(stride: int, padding: int, groups: int, x: Array, w: Array) -> Float[Array, "b y x o"]:
    """`suite.nn.quant.int8.integer_conv`; without groups as integers."""
    if groups > 1:
        return convolved(stride, padding, groups, "bfloat16", x, w)
    product = lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.int32,
    )
    return product.astype(jnp.float32)


def widened(values: Int8[Array, "..."]) -> BFloat16[Array, "..."]:
    """The same integers in bfloat16. XLA's own conversion takes three times as long on a CPU."""
    return narrowed(values.astype(jnp.float32))


def narrowed(x: Float[Array, "..."]) -> BFloat16[Array, "..."]:
    """Finite numbers in bfloat16, halves rounded away from zero: the upper half of their bits."""
    bits = lax.bitcast_convert_type(x, jnp.uint32) + jnp.uint32(0x8000)
    return lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def _rows(x: Array) -> Any:
    """A number, or a symbol in a program for any number of rows."""
    return math.prod(x.shape[:-1])


def plain(x: Array, w: Array) -> Array:
    """``x @ w`` in float32."""
    return dot(x, w.astype(jnp.float32))


def pairs(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """Each input as two integers, of which a row shares the step: one product of twice the rows."""
    rows = x.reshape(-1, x.shape[-1])
    size = step(rows, (1,), 127.0 * _SECOND)
    whole = jnp.round(rows / size).astype(jnp.int32)
    first = (whole + _SECOND // 2) >> 8
    both = jnp.concatenate([first, whole - first * _SECOND]).astype(jnp.int8)
    products, count = dot_integers(both, w), rows.shape[0]
    return ((products[:count] * _SECOND + products[count:]) * size).reshape(*x.shape[:-1], w.shape[1])


def as_widened(x: Array, w: Array) -> Array:
    """``x @ w`` in bfloat16."""
    return _in_parts(widened, x, w)


def as_bfloat16(x: Array, w: Array) -> Array:
    """``x @ w`` of integers in bfloat16."""
    return _in_parts(widened, widened(x), w)


def _in_parts(form: Callable[[Array], Array], x: Array, w: Array) -> Array:
    """``x @ form(w)`` in bfloat16, as a sum of products over equal parts of the inputs."""
    parts = 1
    while w.shape[0] // parts > LONG and w.shape[0] % (2 * parts) == 0:
        parts *= 2
    size = w.shape[0] // parts
    products = [dot(x[..., at : at + size], form(w[at : at + size]), "bfloat16") for at in range(0, w.shape[0], size)]
    return sum(products[1:], products[0])


def of_two(product: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """``product`` of x (..., i) and w (i, o), which a CPU computes faster of two rows than of one."""

    def with_another(x: Array, w: Array) -> Array:
        more = jnp.pad(x.reshape(-1, x.shape[-1]), ((0, 1), (0, 0)))
        return product(more, w)[:-1].reshape(*x.shape[:-1], w.shape[1])

    return lambda x, w: by_size(_rows(x), 1, with_another, product)(x, w)


def convolved(stride: int, padding: int, groups: int, compute: str, x: Array, w: Array) -> Array:
    """A convolution of operands of any format."""
    x, w = (widened(part) if part.dtype == jnp.int8 and compute == "bfloat16" else part for part in (x, w))
    return conv2d(x, w, stride, padding, groups, compute)
