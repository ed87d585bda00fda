"""Pooling over two axes on a CPU, written out by the places in a window, derivative too.

XLA's CPU backend looks for the largest value of each window again to spread a gradient, value by value, which takes
some forty times as long.
"""

from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from suite.nn.cpu import windows


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def max_pool(size: int, stride: int, padding: int, x: Array) -> Array:
    """`suite.nn.pooling.max_pool`."""
    return reduce(jnp.maximum, _pooled(x, size, stride, padding))


def _pooled(x: Array, size: int, stride: int, padding: int) -> list[Array]:
    """What each place of the windows meets."""
    around = (padding, padding, 0)
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), around, around, (0, 0, 0)))
    return windows.met(x, (size, size), stride)


def _max_pool_forward(size: int, stride: int, padding: int, x: Array) -> tuple[Array, tuple]:
    largest, *others = _pooled(x, size, stride, padding)
    place = jnp.zeros(largest.shape, jnp.uint8)
    for n, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.uint8(n), place)
        largest = jnp.maximum(largest, other)
    return largest, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _max_pool_back(size: int, stride: int, padding: int, residuals: tuple, grad: Array) -> tuple[Array]:
    """Each of the interleaved grids of inputs is met by some places of the windows alone."""
    place, like = residuals
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

    whole = windows.woven([[grid(r, s) for s in range(stride)] for r in range(stride)])
    words = windows.computed(lax.bitcast_convert_type(whole, jnp.uint32))
    whole = lax.bitcast_convert_type(words, jnp.float32)
    whole = whole.reshape(grad.shape[0], high * stride, wide * stride, grad.shape[3])
    return (whole[:, padding : padding + h, padding : padding + w].astype(like.dtype),)


max_pool.defvjp(_max_pool_forward, _max_pool_back)
