"""The sums of a batch norm on a CPU, each read by itself."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Sums = tuple[Float[Array, "c"], Float[Array, "c"]]
Form = Callable[..., Sums]
"""A layer's plain form."""
_EXACT = 0.01
"""Least part of the mean square that must be variance for a difference of the two to be exact enough."""


def sums(centred: Form, x: Array, around: Array, rows: Array | None) -> Sums:
    """``centred`` of the operands, from the sums of ``x`` and its squares, for which a CPU has kernels of its own that
    need no copy of the differences: a third of the time. Not where a row is padding, nor where a mean beyond ten
    deviations costs digits.
    """
    count = x.size // x.shape[3]
    (once,), (again, _) = apart(x), apart(x, around)
    first, second = once.sum((0, 1, 2), jnp.float32), jnp.square(again.astype(jnp.float32)).sum((0, 1, 2))
    exact = (second - first**2 / count >= _EXACT * second).all()
    return lax.cond(
        exact if rows is None else exact & rows.all(),
        lambda: (first - count * around, second - 2 * around * first + count * around**2),
        lambda: centred(x, around, rows),
    )


def apart(*arrays: Array) -> tuple[Array, ...]:
    """The same, for one sum on a CPU, which then reads bfloat16 by itself. Otherwise XLA writes one float32 copy for
    all that read them. No two sums may name the same arrays here, or they are one again.
    """
    return lax.optimization_barrier(arrays)


def gradient_sums(plain: Form, x: Array, grad: Array) -> Sums:
    """``plain`` of the operands, its two sums apart."""
    return plain(*apart(x, grad))[0], plain(x, *apart(grad))[1]
