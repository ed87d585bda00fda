"""Rounding to integers of 8 bits: a step, and how many of it a value is.

``...`` in shapes: any axes.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

HIGHEST = 127.5
"""The largest size of a value, in steps: what lies between 127 and it is rounded to 127."""
_TINY = 1.1754944e-38**0.5
"""A step below it stands for nothing but zeros, and 1 takes its place."""


def step(x: Float[Array, "..."], axes: tuple[int, ...], highest: float = HIGHEST) -> Float[Array, "..."]:
    """The step between two integers that makes the largest value along ``axes`` the largest integer."""
    largest = jnp.abs(x).max(axes, keepdims=True) / highest
    return jnp.where(largest < _TINY, 1.0, largest)


def rounded(x: Float[Array, "..."], size: Float[Array, "..."]) -> Int8[Array, "..."]:
    """``x / size`` to the nearest integer, those out of range to the last ones."""
    return jnp.clip(jnp.round(x / size), -128, 127).astype(jnp.int8)
