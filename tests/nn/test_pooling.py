"""Pooling: the values of XLA's own operation, and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from suite.nn.pooling import max_pool


def test_max_pool_never_takes_padding():
    x = -jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(x, 3, 2, 1)[0, :, :, 0], [[-1, -2], [-5, -6]])


@pytest.mark.parametrize(
    "height,width,size,stride,padding",
    [(8, 8, 3, 2, 1), (7, 9, 3, 2, 1), (9, 8, 2, 2, 0), (10, 7, 2, 3, 0), (6, 6, 3, 1, 1)],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_is_that_of_xla_with_its_gradient(height, width, size, stride, padding, dtype):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3)).astype(dtype)

    def loss(pool, x):
        made = pool(x).astype(jnp.float32)
        return (made * jnp.cos(jnp.arange(made.size, dtype=jnp.float32)).reshape(made.shape)).sum(), made

    window, padded = (1, size, size, 1), ((0, 0), (padding, padding), (padding, padding), (0, 0))
    theirs = partial(
        lax.reduce_window,
        init_value=-jnp.inf,
        computation=lax.max,
        window_dimensions=window,
        window_strides=(1, stride, stride, 1),
        padding=padded,
    )
    (got, made), (wanted, expected) = (
        jax.grad(partial(loss, pool), has_aux=True)(x)
        for pool in (lambda x: max_pool(x, size, stride, padding), theirs)
    )
    np.testing.assert_array_equal(made, expected)
    assert got.dtype == x.dtype
    share = 0.02 if dtype == "bfloat16" else 1e-6  # XLA sums where windows overlap in the format of the input
    got, wanted = (np.asarray(grad.astype(jnp.float32)) for grad in (got, wanted))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=share * np.abs(wanted).max())


def test_of_equal_values_the_first_has_the_gradient():
    grad = jax.grad(lambda x: max_pool(x, 2, 2).sum())(jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]] * 2)
