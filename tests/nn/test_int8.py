"""Products of integers: every form on one number, rounding as Qwix's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from suite.nn.cpu import int8 as on_cpu
from suite.nn.dot import dot_integers
from suite.nn.quant import int8, rounding

RNG = np.random.default_rng(0)


def integers(*shape):
    return jnp.asarray(RNG.integers(-128, 128, shape), jnp.int8)


@pytest.mark.parametrize("rows", [(5,), (1,), (2, 3), (1, 1), (), (100,)])
def test_the_forms_of_an_integer_product_agree(rows):
    x, w = integers(*rows, 64), integers(64, 24)
    expected = np.asarray(x, np.int64) @ np.asarray(w, np.int64)
    for form in (on_cpu.of_two(dot_integers), on_cpu.as_bfloat16, dot_integers, jax.jit(int8.integer_dot)):
        np.testing.assert_array_equal(form(x, w), expected)


def test_sums_beyond_the_exact_ones_agree_to_rounding():
    x, w = jnp.full((3, 4096), 127, jnp.int8), jnp.full((4096, 16), 127, jnp.int8)
    assert 127 * 127 * 4096 > 2**24
    np.testing.assert_allclose(on_cpu.as_bfloat16(x, w), dot_integers(x, w), rtol=1e-4)


@pytest.mark.parametrize("rows, inputs", [((1,), 96), ((7,), 96), ((2, 8), 96), ((40,), 96), ((40,), 4100), ((), 96)])
def test_weights_alone_cost_the_rounding_of_inputs_to_bfloat16(rows, inputs):
    x, w = jnp.asarray(RNG.normal(size=(*rows, inputs)), jnp.float32), integers(inputs, 16)
    exact = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
    size = np.linalg.norm(np.asarray(x), axis=-1, keepdims=True) * np.linalg.norm(np.asarray(w, np.float64), axis=0)
    for form in (on_cpu.plain, on_cpu.pairs, on_cpu.as_widened, int8._dot, jax.jit(int8.weight_dot)):
        assert (np.abs(form(x, w) - exact) / size).max() < 2**-9 / 2
    assert (np.abs(on_cpu.pairs(x, w) - exact) / size).max() < 2**-13  # finer than bfloat16


@pytest.mark.parametrize("stride, padding, groups, channels", [(1, 1, 1, 8), (2, 0, 1, 40), (1, 2, 4, 8)])
def test_the_forms_of_a_convolution_agree(stride, padding, groups, channels):
    x, w = integers(2, 7, 6, channels), integers(3, 3, channels // groups, 8)
    where = stride, padding, groups
    exact = on_cpu.convolved(*where, "float32", x.astype(jnp.float32), w.astype(jnp.float32))
    np.testing.assert_allclose(on_cpu.convolved(*where, "bfloat16", x, w), exact, rtol=1e-6)
    made = jax.jit(int8.integer_conv, static_argnums=(2, 3, 4))(x, w, *where)
    np.testing.assert_allclose(made, exact, rtol=1e-6)
    floats = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)
    exact = on_cpu.convolved(*where, "float32", floats, w.astype(jnp.float32))
    found = jax.jit(int8.weight_conv, static_argnums=(2, 3, 4))(floats, w, *where)
    np.testing.assert_allclose(found, exact, atol=float(np.abs(exact).max()) * 2**-8)


@pytest.mark.parametrize("inputs, outputs", [(64, 24), (1100, 96)])
def test_programs_with_an_open_number_of_rows(inputs, outputs):
    """An exported program is of no batch size, and answers one row and many alike."""
    (rows,) = jax.export.symbolic_shape("b")
    w = integers(inputs, outputs)
    for function, kind in ((int8.weight_dot, jnp.float32), (int8.integer_dot, jnp.int8)):
        program = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(
            jax.ShapeDtypeStruct((rows, inputs), kind), w
        )
        for count in (1, 2, 70):
            x = jnp.asarray(RNG.integers(-99, 99, (count, inputs)), kind)
            exact = np.asarray(x, np.int64) @ np.asarray(w, np.int64)
            np.testing.assert_allclose(program.call(x, w), exact, atol=2.0**-14 * np.abs(exact).max())


def test_integers_and_floats_in_bfloat16():
    every = jnp.arange(-128, 128, dtype=jnp.int8)
    assert on_cpu.widened(every).dtype == jnp.bfloat16
    np.testing.assert_array_equal(on_cpu.widened(every), every.astype(jnp.bfloat16))
    x = jnp.asarray(RNG.normal(size=1000) * 10.0 ** RNG.integers(-20, 20, 1000), jnp.float32)
    np.testing.assert_array_equal(int8.narrowed(x), x.astype(jnp.bfloat16))


@pytest.mark.parametrize("axes, channelwise", [((1,), (0,)), ((0, 1), ())])
def test_inputs_are_rounded_as_qwix_rounds(axes, channelwise):
    x = jnp.asarray(RNG.normal(size=(6, 33)), jnp.float32).at[2].set(0)
    theirs = qwix.quantize(x, jnp.int8, channelwise_axes=channelwise)
    size = rounding.step(x, axes)
    np.testing.assert_allclose(size, theirs.scale, rtol=1e-6)
    np.testing.assert_array_equal(rounding.rounded(x, size), theirs.qvalue)


def test_what_is_out_of_range_becomes_the_last_integer():
    made = rounding.rounded(jnp.array([1e9, -1e9, 0.4, -0.6]), jnp.float32(1))
    np.testing.assert_array_equal(made, [127, -128, 0, -1])
