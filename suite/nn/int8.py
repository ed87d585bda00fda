"""Products with matrices of int8, in one place: which form they are computed in depends on the platform.

An integer of 8 bits is exact in bfloat16, and so is the product of two of them in float32, where sums stay exact up to
2^24. Therefore a CPU, whose bfloat16 product is its fastest, widens both operands to bfloat16; elsewhere integers are
multiplied as such, and summed in int32. The two agree, to rounding of sums beyond 2^24.

Dims: i inputs, o outputs; "..." any leading axes.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int8

from suite.nn.dot import dot

HIGHEST = 127.5
"""The largest size of a value, in steps: what lies between 127 and it is rounded to 127."""
_TINY = 1.1754944e-38**0.5
"""A step below it stands for nothing but zeros, and 1 takes its place."""


def step(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """The step between two integers that makes the largest value along ``axes`` the largest integer."""
    largest = jnp.abs(x).max(axes, keepdims=True) / HIGHEST
    return jnp.where(largest < _TINY, 1.0, largest)


def rounded(x: Float[Array, "..."], size: Float[Array, "..."]) -> Int8[Array, "..."]:
    """``x / size`` to the nearest integer, those out of range to the last ones."""
    return jnp.clip(jnp.round(x / size), -128, 127).astype(jnp.int8)


def weight_dot(x: Float[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w``, with ``x`` rounded to bfloat16 and float32 sums."""
    return lax.platform_dependent(x, w, cpu=_on_cpu, default=_narrow)


def integer_dot(x: Int8[Array, "... i"], w: Int8[Array, "i o"]) -> Float[Array, "... o"]:
    """``x @ w`` of integers, as float32."""
    return lax.platform_dependent(x, w, cpu=_on_cpu, default=_integers)


def _narrow(x: Array, w: Array) -> Array:
    return dot(x, w, "bfloat16")


def _on_cpu(x: Array, w: Array) -> Array:
    if x.size > x.shape[-1]:
        return _narrow(x, w)
    # The product of a bfloat16 matrix with one row misses the fast kernel; with two rows it doesn't.
    twice = jnp.broadcast_to(x.reshape(1, -1), (2, x.shape[-1]))
    return _narrow(twice, w)[:1].reshape(*x.shape[:-1], -1)


def _integers(x: Array, w: Array) -> Array:
    made = lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    return made.astype(jnp.float32)
