"""Convolution: both forms give PyTorch's geometry, in both precisions; norms of feature maps over real rows alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from suite import precision
from suite.config import Precision
from suite.nn import conv, onednn
from suite.nn.batchnorm import BatchNorm, GroupNorm
from suite.nn.conv import Conv, conv2d, conv2d_finished, max_pool

# height, width, size, stride, padding, groups, inputs, outputs
SHAPES = [
    (8, 8, 3, 1, 1, 1, 16, 4),
    (9, 7, 3, 2, 1, 1, 16, 4),
    (8, 10, 7, 2, 3, 1, 3, 4),  # few channels: all taps in one product
    (11, 8, 3, 3, 0, 1, 4, 4),
    (8, 8, 1, 2, 0, 1, 4, 4),
    (7, 9, 2, 2, 0, 1, 17, 3),  # the last row and column meet nothing
    (9, 9, 1, 3, 1, 1, 20, 2),  # the kernel is smaller than the stride
    (8, 8, 3, 2, 1, 2, 4, 6),
    (9, 9, 3, 1, 2, 4, 4, 4),
]


def drawn(shape):
    height, width, size, _, _, groups, inputs, outputs = shape
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, height, width, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, inputs // groups, outputs)), jnp.float32)
    return x, kernel


def reference(shape, x, kernel):
    """XLA's own operation and its own derivative."""
    _, _, _, stride, padding, groups, _, _ = shape
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((padding, padding),) * 2,
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups)  # fmt: skip


def forms(shape):
    """(forward, backward) of each form, whatever the platform."""
    _, _, _, stride, padding, groups, _, _ = shape
    if groups == 1:
        yield partial(conv._products, stride, padding), partial(conv._products_back, stride, padding)
    else:
        yield (partial(conv._grouped, groups, stride, padding), partial(conv._grouped_back, groups, stride, padding))
    place = (stride, padding, groups, "float32")
    if onednn.version():
        yield partial(onednn.convolve, *place), partial(onednn.convolve_back, *place)
    yield partial(conv._convolution, *place), partial(conv._convolution_back, *place)


def close(got, expected, share):
    return float(jnp.abs(got - expected).max()) <= share * float(jnp.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_both_forms_and_their_derivatives(shape):
    x, kernel = drawn(shape)

    @jax.jit
    def everything(x, kernel):
        expected, pull = jax.vjp(partial(reference, shape), x, kernel)
        grad = jnp.cos(jnp.arange(expected.size, dtype=jnp.float32)).reshape(expected.shape)
        made = {}
        for name in ("float32", "bfloat16"):
            operands = [a.astype(name) for a in (x, kernel, grad)]
            made[name] = [(forward(*operands[:2]), *backward(*operands)) for forward, backward in forms(shape)]
        return (expected, *pull(grad)), made

    expected, made = everything(x, kernel)
    for name, share in (("float32", 1e-5), ("bfloat16", 1.5e-2)):
        for form in made[name]:
            for got, wanted in zip(form, expected, strict=True):
                assert got.shape == wanted.shape and got.dtype == jnp.float32
                assert close(got, wanted, share)
    assert not close(made["bfloat16"][0][0], expected[0], 1e-6)  # it did round


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_conv2d_and_its_derivative(compute):
    shape = SHAPES[1]
    x, kernel = drawn(shape)

    def loss(function, x, kernel):
        return jnp.sin(function(x, kernel)).sum()

    ours = partial(conv2d, stride=2, padding=1, compute=compute)
    value, grads = jax.jit(jax.value_and_grad(partial(loss, ours), (0, 1)))(x, kernel / 10)
    expected, wanted = jax.jit(jax.value_and_grad(partial(loss, partial(reference, shape)), (0, 1)))(x, kernel / 10)
    share = 1e-4 if compute == "float32" else 2e-2
    assert abs(value - expected) <= share * 20
    assert all(close(got, want, share) and got.dtype == jnp.float32 for got, want in zip(grads, wanted, strict=True))


@pytest.mark.parametrize("by_library", [True, False])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_finished_convolution_is_its_steps(compute, by_library, monkeypatch):
    """With maps to add and without, with the ReLU and without; and the derivative, which is of the steps."""
    if not by_library:
        monkeypatch.setattr(onednn, "_library", lambda: None)
    for shape in (SHAPES[1], SHAPES[4], SHAPES[7]):
        _, _, _, stride, padding, groups, _, outputs = shape
        place = {"stride": stride, "padding": padding, "groups": groups, "compute": compute, "result": compute}

        def steps(x, kernel, scale, shift, added, relu, place=place):
            y = conv2d(x, kernel, **place) * scale + shift
            y = y if added is None else y + added
            return (jax.nn.relu(y) if relu else y).astype(compute)

        def once(x, kernel, scale, shift, added, relu, place=place):
            return conv2d_finished(x, kernel, scale, shift, added, **place, relu=relu)

        def learned(function, added, relu, *operands):
            def loss(*operands):
                made = function(*operands, added, relu).astype(jnp.float32)
                return jnp.sin(made).sum(), made

            return jax.grad(loss, (0, 1, 2, 3), has_aux=True)(*operands), function(*operands, added, relu)

        @jax.jit
        def everything(x, kernel, scale, shift, once=once, steps=steps, learned=learned):
            like = steps(x, kernel, scale, shift, None, False)
            return [[learned(function, added, relu, x, kernel, scale, shift) for function in (once, steps)]
                    for added, relu in ((None, True), (jnp.ones_like(like), False))]  # fmt: skip

        channels = jnp.arange(1.0, outputs + 1)
        for got, expected in everything(*drawn(shape), jnp.cos(channels), jnp.sin(channels)):
            assert got[1].dtype == compute
            share = 1e-5 if compute == "float32" else 1e-2  # the steps are rounded once more
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                assert close(a.astype(jnp.float32), b.astype(jnp.float32), share)


@pytest.mark.parametrize("by_library", [True, False])
def test_maps_can_be_narrow_and_their_sums_are_not(by_library, monkeypatch):
    if not by_library:
        monkeypatch.setattr(onednn, "_library", lambda: None)
    x, kernel = drawn(SHAPES[0])
    wide, narrow = (partial(conv2d, stride=1, padding=1, compute="bfloat16", result=result)
                    for result in ("float32", "bfloat16"))  # fmt: skip
    made = narrow(x, kernel)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_array_equal(made, wide(x, kernel).astype(jnp.bfloat16))
    by_x, by_kernel = jax.grad(lambda *of: narrow(*of).sum(dtype=jnp.float32), (0, 1))(x, kernel)
    assert by_x.dtype == by_kernel.dtype == jnp.float32
    np.testing.assert_array_equal(by_x, by_x.astype(jnp.bfloat16).astype(jnp.float32))


def test_half_precision_products_are_summed_in_float32():
    """A thousand ones and a 2**-7: bfloat16 would not hold their sum."""
    x = jnp.ones((1, 1, 1, 1024)).at[..., 0].set(2.0**-7)
    made = conv2d(x, jnp.ones((1, 1, 1024, 2)), compute="bfloat16")
    np.testing.assert_array_equal(np.asarray(made).ravel(), np.float32(1023 + 2.0**-7))


def test_the_module_follows_the_precision_policy():
    model = Conv(3, 4, 3, rngs=nnx.Rngs(0), use_bias=True)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3))
    narrow = precision.apply(model, Precision(compute="bfloat16"))
    assert narrow.kernel is model.kernel and narrow.compute == "bfloat16" and model.compute == "float32"
    assert model(x).shape == (1, 5, 5, 4)
    assert 0 < float(jnp.abs(narrow(x) - model(x)).max()) < 0.1


def test_max_pool_never_takes_padding():
    x = -jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(x, 3, 2, 1)[0, :, :, 0], [[-1, -2], [-5, -6]])


@pytest.mark.parametrize("height,width,size,stride,padding", [(8, 8, 3, 2, 1), (7, 9, 3, 2, 1), (9, 8, 2, 2, 0),
                                                              (10, 7, 2, 3, 0), (6, 6, 3, 1, 1)])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_is_that_of_xla_with_its_gradient(height, width, size, stride, padding, dtype):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3)).astype(dtype)

    def loss(pool, x):
        made = pool(x).astype(jnp.float32)
        return (made * jnp.cos(jnp.arange(made.size, dtype=jnp.float32)).reshape(made.shape)).sum(), made

    window, padded = (1, size, size, 1), ((0, 0), (padding, padding), (padding, padding), (0, 0))
    theirs = partial(lax.reduce_window, init_value=-jnp.inf, computation=lax.max, window_dimensions=window,
                     window_strides=(1, stride, stride, 1), padding=padded)  # fmt: skip
    (got, made), (wanted, expected) = (jax.grad(partial(loss, pool), has_aux=True)(x)
                                       for pool in (lambda x: max_pool(x, size, stride, padding), theirs))  # fmt: skip
    np.testing.assert_array_equal(made, expected)
    share = 0.02 if dtype == "bfloat16" else 1e-6  # XLA sums where windows overlap in the format of the input
    assert got.dtype == x.dtype and close(got.astype(jnp.float32), wanted.astype(jnp.float32), share)


def test_of_equal_values_the_first_has_the_gradient():
    grad = jax.grad(lambda x: max_pool(x, 2, 2).sum())(jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]] * 2)


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
    made, expected = (jax.value_and_grad(lambda *of, f=f: (jnp.sin(f(*of)) * weight).sum(), (0, 1, 2))(*operands)
                      for f in (ours, formula))  # fmt: skip
    np.testing.assert_allclose(made[0], expected[0], rtol=1e-5)
    for got, wanted in zip(made[1], expected[1], strict=True):
        assert got.dtype == wanted.dtype
        assert close(got.astype(jnp.float32), wanted.astype(jnp.float32), 1e-5 if dtype == "float32" else 1e-2)


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


def test_eight_devices_have_the_statistics_of_one(child):
    assert float(child(DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=8")) < 1e-5


def test_group_norm_normalises_each_image_by_groups():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 4)) * 3 + 1
    y = np.asarray(GroupNorm(4, groups=2)(x)).reshape(2, 3, 3, 2, 2)
    np.testing.assert_allclose(y.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 4)), 1, rtol=1e-3)
    np.testing.assert_allclose(GroupNorm(4, groups=2)(x[:1]), GroupNorm(4, groups=2)(x)[:1], rtol=1e-5)
