"""Products with matrices of int8, in one place: which form they are computed in depends on platform and rows.

Elsewhere than on a CPU, inputs in bfloat16 meet the matrix widened to it, and integers are multiplied as such. On a CPU
(XLA's backend of jaxlib 0.10) what is fastest depends on the rows, as reading and widening the matrix takes as long as
the product of a few dozen rows. So with few rows integers are multiplied as such there too, each float input being two
of them, and with many rows all is bfloat16: an integer of 8 bits is exact in it, and so is the product of two of them in
float32, where sums stay exact up to 2^24. Forms of one product agree: to the rounding of inputs to bfloat16, and where
all are integers to the rounding of sums beyond 2^24.

Dims: n rows, i inputs, o outputs; "..." any leading axes.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, BFloat16, Float, Int8

from suite.nn.dot import dot

HIGHEST = 127.5
"""The largest size of a value, in steps: what lies between 127 and it is rounded to 127."""
PAIRS = 16
"""Rows of inputs up to which a CPU takes each input as two integers."""
FEW = 64
"""Rows of integers up to which a CPU multiplies them as such."""
MANY, LONG = 128, 1024
"""Up to ``MANY`` rows a CPU is faster with sums of at most ``LONG`` bfloat16 products, one after the other."""
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
    on_cpu = _pairs if _rows(x) <= PAIRS else _widened
    return lax.platform_dependent(x, w, cpu=on_cpu, default=_narrow)


def integer_dot(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers, as float32."""
    on_cpu = _integers_of_two if _rows(x) <= FEW else _as_bfloat16
    return lax.platform_dependent(x, w, cpu=on_cpu, default=_integers)


def bfloat16_dot(x: Float[Array, "... i"], w: BFloat16[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 and float32 sums."""
    on_cpu = lambda x, w: _of_two(lambda x: _in_parts(x, w, lambda part: part), x)
    return lax.platform_dependent(x, w, cpu=on_cpu, default=_narrow)


def _rows(x: Array) -> int:
    return x.size // x.shape[-1]


def _narrow(x: Array, w: Array) -> Array:
    return dot(x, w, "bfloat16")


def _integers(x: Array, w: Array) -> Array:
    made = lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return made.astype(jnp.float32)


def _integers_of_two(x: Array, w: Array) -> Array:
    return _of_two(lambda x: _integers(x, w), x)


def _pairs(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """Each input as two integers, of which a row shares the step: one product of twice the rows."""
    rows = x.reshape(-1, x.shape[-1])
    size = step(rows, (1,), 127.0 * _SECOND)
    whole = jnp.round(rows / size).astype(jnp.int32)
    first = (whole + _SECOND // 2) >> 8
    both = jnp.concatenate([first, whole - first * _SECOND]).astype(jnp.int8)
    high, low = jnp.split(_integers(both, w), 2)
    return ((high * _SECOND + low) * size).reshape(*x.shape[:-1], -1)


def _widened(x: Array, w: Array) -> Array:
    return _in_parts(x, w, widened)


def _as_bfloat16(x: Array, w: Array) -> Array:
    return _in_parts(widened(x), w, widened)


def _in_parts(x: Array, w: Array, form: Callable[[Array], Array]) -> Array:
    """``x @ form(w)`` in bfloat16, as a sum of products over parts of the inputs where that is faster."""
    parts = 1
    while _rows(x) <= MANY and w.shape[0] // parts > LONG and w.shape[0] % (2 * parts) == 0:
        parts *= 2
    size = w.shape[0] // parts
    made = [_narrow(x[..., at : at + size], form(w[at : at + size])) for at in range(0, w.shape[0], size)]
    return sum(made[1:], made[0])


def _of_two(product: Callable[[Array], Array], x: Array) -> Array:
    """``product`` of x (..., i), which a CPU computes faster of two rows than of one."""
    if _rows(x) > 1:
        return product(x)
    twice = jnp.broadcast_to(x.reshape(1, -1), (2, x.shape[-1]))
    return product(twice)[0].reshape(*x.shape[:-1], -1)
