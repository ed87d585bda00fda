"""Pooling over two axes."""

from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from suite.nn.cpu import pooling as on_cpu
from suite.nn.cpu.switch import by_platform


def max_pool(x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0) -> Float[Array, "b y x c"]:
    """The largest value of each window, which padding never is. Of several its gradient goes to the first."""
    window = size, stride, padding
    return by_platform(x, cpu=partial(on_cpu.max_pool, *window), default=partial(_max_pool, *window))


def _max_pool(size: int, stride: int, padding: int, x: Array) -> Array:
    """In float32, in which a gradient is summed where windows overlap."""
    around = (0, 0), (padding, padding), (padding, padding), (0, 0)
    y = lax.reduce_window(x.astype(jnp.float32), -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), around)
    return y.astype(x.dtype)
