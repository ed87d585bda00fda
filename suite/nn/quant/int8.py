"""Products and convolutions with int8, in one place: which form they are computed in depends on platform and rows.

Elsewhere than on a CPU, inputs in bfloat16 meet the matrix widened to it, and integers are multiplied as such. On a CPU
(XLA's backend of jaxlib 0.10) what is fastest depends on the rows, as reading and widening the matrix takes as long as
the product of a few dozen of them. So with few rows integers are multiplied as such there too, each float input being
two of them, and with many rows all is bfloat16: an integer of 8 bits is exact in it, and so is the product of two in
float32, where sums stay exact up to 2^24. Forms of one product agree: to the rounding of inputs to bfloat16, and where
all are integers to the rounding of sums beyond 2^24.

Dims: b images, h w height and width of the input, y x those of the output, p q those of the kernel, i inputs,
o outputs, g groups; "..." any leading axes, whose places are rows.
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
from suite.nn.dot import dot

HIGHEST = 127.5
"""The largest size of a value, in steps: what lies between 127 and it is rounded to 127."""
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
"""What the first integer of a pair stands for; the second is the rest, between -128 and 127."""
_TINY = 1.1754944e-38**0.5
"""A step below it stands for nothing but zeros, and 1 takes its place."""


def step(x: Float[Array, "..."], axes: tuple[int, ...], highest: float = HIGHEST) -> Float[Array, "..."]:
    """The step between two integers that makes the largest value along ``axes`` the largest integer."""
    largest = jnp.abs(x).max(axes, keepdims=True) / highest
    return jnp.where(largest < _TINY, 1.0, largest)


def rounded(x: Float[Array, "..."], size: Float[Array, "..."]) -> Int8[Array, "..."]:
    """``x / size`` to the nearest integer, those out of range to the last ones."""
    return jnp.clip(jnp.round(x / size), -128, 127).astype(jnp.int8)


def widened(values: Int8[Array, "..."]) -> BFloat16[Array, "..."]:
    """The same integers in bfloat16. XLA's own conversion takes three times as long on a CPU."""
    return narrowed(values.astype(jnp.float32))


def narrowed(x: Float[Array, "..."]) -> BFloat16[Array, "..."]:
    """Finite numbers in bfloat16, halves rounded away from zero: the upper half of their bits."""
    bits = lax.bitcast_convert_type(x, jnp.uint32) + jnp.uint32(0x8000)
    return lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def weight_dot(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 or finer and float32 sums."""
    on_cpu = by_size(_rows(x), PAIRS, _plain if w.size <= SMALL else _pairs, _widened)
    return lax.platform_dependent(x, w, cpu=on_cpu, default=_narrow)


def integer_dot(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers, as float32."""
    on_cpu = by_size(_rows(x), FEW, _of_two(_integers), _as_bfloat16)
    return lax.platform_dependent(x, w, cpu=on_cpu, default=_integers)


def bfloat16_dot(x: Float[Array, "... i"], w: BFloat16[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 and float32 sums."""
    return lax.platform_dependent(x, w, cpu=_of_two(partial(_in_parts, lambda part: part)), default=_narrow)


def weight_conv(
    x: Float[Array, "b h w i"],
    w: Int8[Array, "p q i/g o"] | BFloat16[Array, "p q i/g o"],
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "b y x o"]:
    """`suite.nn.conv.conv2d`, with ``x`` rounded to bfloat16 or not at all."""
    narrow = partial(_convolved, stride, padding, groups, "bfloat16")
    on_cpu = partial(_convolved, stride, padding, groups, "float32") if w.shape[2] <= THIN else narrow
    return lax.platform_dependent(x, w, cpu=on_cpu, default=narrow)


def integer_conv(
    x: Int8[Array, "b h w i"], w: Int8[Array, "p q i/g o"], stride: int, padding: int, groups: int
) -> Float[Array, "b y x o"]:
    """`suite.nn.conv.conv2d` of integers, as float32; only a CPU convolves them as such."""
    narrow = partial(_convolved, stride, padding, groups, "bfloat16")
    on_cpu = partial(_convolved_integers, stride, padding) if groups == 1 else narrow
    return lax.platform_dependent(x, w, cpu=on_cpu, default=narrow)


def _rows(x: Array) -> Any:
    """A number, or a symbol in a program for any number of rows."""
    return math.prod(x.shape[:-1])


def _narrow(x: Array, w: Array) -> Array:
    return dot(x, w, "bfloat16")


def _plain(x: Array, w: Array) -> Array:
    return dot(x, w.astype(jnp.float32))


def _integers(x: Array, w: Array) -> Array:
    made = lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return made.astype(jnp.float32)


def _pairs(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """Each input as two integers, of which a row shares the step: one product of twice the rows."""
    rows = x.reshape(-1, x.shape[-1])
    size = step(rows, (1,), 127.0 * _SECOND)
    whole = jnp.round(rows / size).astype(jnp.int32)
    first = (whole + _SECOND // 2) >> 8
    both = jnp.concatenate([first, whole - first * _SECOND]).astype(jnp.int8)
    made, count = _integers(both, w), rows.shape[0]
    return ((made[:count] * _SECOND + made[count:]) * size).reshape(*x.shape[:-1], w.shape[1])


def _widened(x: Array, w: Array) -> Array:
    return _in_parts(widened, x, w)


def _as_bfloat16(x: Array, w: Array) -> Array:
    return _in_parts(widened, widened(x), w)


def _in_parts(form: Callable[[Array], Array], x: Array, w: Array) -> Array:
    """``x @ form(w)`` in bfloat16, as a sum of products over equal parts of the inputs."""
    parts = 1
    while w.shape[0] // parts > LONG and w.shape[0] % (2 * parts) == 0:
        parts *= 2
    size = w.shape[0] // parts
    made = [_narrow(x[..., at : at + size], form(w[at : at + size])) for at in range(0, w.shape[0], size)]
    return sum(made[1:], made[0])


def _of_two(product: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """``product`` of x (..., i) and w (i, o), which a CPU computes faster of two rows than of one."""

    def with_another(x: Array, w: Array) -> Array:
        more = jnp.pad(x.reshape(-1, x.shape[-1]), ((0, 1), (0, 0)))
        return product(more, w)[:-1].reshape(*x.shape[:-1], w.shape[1])

    return lambda x, w: by_size(_rows(x), 1, with_another, product)(x, w)


def _convolved(stride: int, padding: int, groups: int, compute: str, x: Array, w: Array) -> Array:
    x, w = (widened(part) if part.dtype == jnp.int8 and compute == "bfloat16" else part for part in (x, w))
    return conv2d(x, w, stride, padding, groups, compute)


def _convolved_integers(stride: int, padding: int, x: Array, w: Array) -> Array:
    made = lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.int32,
    )
    return made.astype(jnp.float32)
