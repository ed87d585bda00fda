"""The choice between two forms of a computation by the number of rows, taken when that number is known.

In a program for any number of rows (see `suite.exporting.tracing`) it is known when the program is compiled: the
compiler then finds a constant condition and keeps one of the two.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax


def by_size(size: Any, most: int, few: Callable[..., Any], many: Callable[..., Any]) -> Callable[..., Any]:
    """``few`` where ``size``, a number or a symbol, is at most ``most``, else ``many``; both of the same arguments and
    results."""
    if isinstance(size, int):
        return few if size <= most else many
    return lambda *operands: lax.cond(jnp.asarray(size) <= most, few, many, *operands)
