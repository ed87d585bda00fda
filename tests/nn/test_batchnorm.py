"""Norms of feature maps: over real rows alone, on however many devices, with the derivative of the whole formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.nn.batchnorm import BatchNorm, GroupNorm
from tests.conftest import simulated


def test_batch_norm_counts_real_rows_alone():
    x = 5 + 2 * jax.random.normal(jax.random.key(0), (4, 3, 3, 2))
    rows = jnp.array([True, True, False, True])
    real, norm = np.asarray(x)[[0, 1, 3]], BatchNorm(2)
    y = np.asarray(norm(x.at[2].set(1e6), rows, training=True))[[0, 1, 3]]
    mean, variance = real.mean((0, 1, 2)), real.var((0, 1, 2))
    np.testing.assert_allclose(y, (real - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-5)
    unbiased = real.reshape(-1, 2).var(0, ddof=1)
    np.testing.assert_allclose(norm.variance[...], 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_batch_norm_evaluates_with_the_running_averages():
    norm = BatchNorm(2)
    norm.mean[...], norm.variance[...] = jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0])
    y = norm(jnp.ones((1, 1, 1, 2)) * 7.0)
    np.testing.assert_allclose(np.asarray(y).ravel(), [3.0, 5 / 3], rtol=1e-5)
    np.testing.assert_array_equal(norm.mean[...], [1.0, 2.0])


def test_batch_norm_does_not_cancel_far_from_zero():
    """Differences of moments of values near 1,000 lose six digits; around the running mean they don't."""
    x = 1000 + jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    norm = BatchNorm(1)
    norm.mean[...] = jnp.array([1000.0])
    y = np.asarray(norm(x, training=True))
    assert abs(y.std() - 1) < 1e-3 and abs(y.mean()) < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [None, [True] * 4, [True, True, False, True]])
def test_batch_norm_learns_from_the_batch_statistics_too(dtype, rows):
    """The derivative through mean and variance, against that of the formula in one piece."""
    x = (1 + jax.random.normal(jax.random.key(0), (4, 5, 3, 2))).astype(dtype)
    weight = jnp.ones((4, 1, 1, 1)) if rows is None else jnp.asarray(rows, jnp.float32)[:, None, None, None]
    rows = None if rows is None else jnp.asarray(rows)

    def formula(x, scale, bias):
        x = x.astype(jnp.float32)
        count = weight.sum() * 15
        mean = (x * weight).sum((0, 1, 2)) / count
        variance = (jnp.square(x - mean) * weight).sum((0, 1, 2)) / count
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    def ours(x, scale, bias):
        norm = BatchNorm(2)
        norm.scale[...], norm.bias[...], norm.mean[...] = scale, bias, jnp.array([0.5, -0.5])
        return norm(x, rows, training=True)

    operands = x, jnp.array([2.0, -1.0]), jnp.array([0.0, 3.0])
    made, expected = (
        jax.value_and_grad(lambda *of, f=f: (jnp.sin(f(*of)) * weight).sum(), (0, 1, 2))(*operands)
        for f in (ours, formula)
    )
    np.testing.assert_allclose(made[0], expected[0], rtol=1e-5)
    for got, wanted in zip(made[1], expected[1], strict=True):
        assert got.dtype == wanted.dtype
        got, wanted = (np.asarray(grad.astype(jnp.float32)) for grad in (got, wanted))
        share = 3e-5 if dtype == "float32" else 1e-2
        np.testing.assert_allclose(got, wanted, rtol=0, atol=share * np.abs(wanted).max())


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from flax import nnx
from suite.nn.batchnorm import BatchNorm
assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
graph, *state = nnx.split(BatchNorm(3), nnx.Param, ...)
params, rest = map(nnx.to_pure_dict, state)
x = np.random.default_rng(0).standard_normal((16, 2, 2, 3)).astype(np.float32) + np.arange(16)[:, None, None, None]
rows = np.arange(16) < 13

@jax.jit
def step(params, rest, x, rows):
    def loss(params):
        norm = nnx.merge(graph, params, rest)
        made = (norm(x, rows, training=True) ** 3 * rows[:, None, None, None]).sum()
        return made, nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat))
    return jax.grad(loss, has_aux=True)(params)

one = step(params, rest, x, rows)
split = NamedSharding(mesh, P("data"))
several = step(params, rest, jax.device_put(x, split), jax.device_put(rows, split))
assert len(jax.device_put(x, split).sharding.device_set) == 8
worst = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(a).max()), one, several)
print(max(jax.tree.leaves(worst)))
"""


def test_eight_devices_have_the_statistics_of_one(forked_child):
    assert float(forked_child(DEVICES, **simulated(8))) < 1e-5


def test_group_norm_normalises_each_image_by_groups():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 4)) * 3 + 1
    y = np.asarray(GroupNorm(4, groups=2)(x)).reshape(2, 3, 3, 2, 2)
    np.testing.assert_allclose(y.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 4)), 1, rtol=1e-3)
    np.testing.assert_allclose(GroupNorm(4, groups=2)(x[:1]), GroupNorm(4, groups=2)(x)[:1], rtol=1e-5)
