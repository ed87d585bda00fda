"""Convolution: both forms give PyTorch's geometry, in both precisions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from suite.experiment.sections import Precision
from suite.nn import conv
from suite.nn.conv import Conv, conv2d, conv2d_finished
from suite.nn.cpu import onednn, patches
from suite.training import precision

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
    (9, 9, 3, 1, 2, 4, 4, 4),  # each channel by itself
    (8, 7, 5, 2, 2, 6, 6, 6),
    (8, 8, 3, 1, 1, 2, 2, 4),
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
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def forms(shape):
    """(forward, backward) of each form, whatever the platform."""
    _, _, _, stride, padding, groups, _, _ = shape
    by_products = (stride, padding, groups)
    yield partial(patches.convolve, *by_products), partial(patches.convolve_back, *by_products)
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
            return [
                [learned(function, added, relu, x, kernel, scale, shift) for function in (once, steps)]
                for added, relu in ((None, True), (jnp.ones_like(like), False))
            ]

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
    wide, narrow = (
        partial(conv2d, stride=1, padding=1, compute="bfloat16", result=result) for result in ("float32", "bfloat16")
    )
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
