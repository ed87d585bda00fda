"""Rounded layers beside the float ones: answers, bytes, and the layers that train for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.nn.conv import Conv
from suite.nn.conv1d import Conv1d, DepthwiseConv1d, PositionalConv
from suite.nn.embedding import Embedding, LearnedPositions
from suite.nn.linear import Linear
from suite.nn.quant.layers import BLOCK, Format, QuantizedTable, pack, tiling, unpack
from suite.nn.table import StackedTable
from suite.surgery.quantize import AWARE, KINDS, ROUNDED
from suite.surgery.quantize_weights import rounded

RNG = np.random.default_rng(0)
RNGS = nnx.Rngs(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def numbers(*shape):
    return jnp.asarray(RNG.integers(0, 300, shape), jnp.int32)


LAYERS = {
    "linear": (Linear(128, 64, rngs=RNGS), normal(20, 128)),
    "conv": (Conv(40, 24, 3, stride=2, use_bias=True, rngs=RNGS), normal(2, 9, 9, 40)),
    "few": (Conv(3, 32, 3, rngs=RNGS), normal(2, 8, 8, 3)),
    "grouped": (Conv(32, 32, 3, groups=4, rngs=RNGS), normal(2, 8, 8, 32)),
    "conv1d": (Conv1d(40, 48, 3, stride=2, padding=1, rngs=RNGS), normal(2, 17, 40)),
    "dilated": (Conv1d(40, 48, 3, padding=2, dilation=2, rngs=RNGS), normal(2, 17, 40)),
    "depthwise": (DepthwiseConv1d(64, 9, rngs=RNGS), normal(2, 20, 64)),
    "positional": (PositionalConv(32, 16, 4, rngs=RNGS), normal(2, 20, 32)),
    "embedding": (Embedding(300, 128, rngs=RNGS), numbers(4, 5)),
    "narrow": (StackedTable(300, 17, rngs=RNGS), numbers(4, 5)),
    "positions": (LearnedPositions(300, 128, rngs=RNGS), 70),
}
# Relative to the largest output. An input of 4 bits is off by up to 1/14 of the largest in its group.
TOLERANCE = {"int8": 0.02, "int8-dynamic": 0.03, "int8-static": 0.03, "int4": 0.2}


def scaled(layer, inputs):
    """A layer whose inputs' scale is fixed, once it has been found."""
    if layer.input_scale is not None:
        layer.input_scale = nnx.Param(jnp.abs(inputs).max() / 127.5)
    return layer


def bytes_of(layer):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)))


def called(layer, inputs):
    """Compiled, but for what is given a length."""
    return layer(inputs) if isinstance(inputs, int) else jax.jit(lambda x: layer(x))(inputs)


@pytest.mark.parametrize(
    "name, kind",
    [(name, kind) for name in LAYERS for kind in KINDS if "-" not in kind or name in ("linear", "conv", "conv1d")],
)
def test_a_rounded_layer_answers_nearly_as_the_float_one(name, kind):
    layer, inputs = LAYERS[name]
    made = ROUNDED[type(layer)](layer, KINDS[kind], rounded)
    made = made if isinstance(made, QuantizedTable) else scaled(made, inputs)
    expected, found = called(layer, inputs), called(made, inputs)
    assert found.dtype == jnp.float32 and found.shape == expected.shape
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE[kind], error
    assert error > 1e-4, "nothing was rounded"


def test_what_is_kept_of_a_large_layer():
    layer = Linear(1024, 256, rngs=RNGS)
    eight, four = (ROUNDED[Linear](layer, KINDS[kind], rounded) for kind in ("int8", "int4"))
    assert (eight.kernel.dtype, eight.kernel.shape, eight.kernel_scale.shape) == (jnp.int8, (1024, 256), (1, 256))
    assert (four.kernel.dtype, four.kernel.shape, four.kernel_scale.shape) == (jnp.uint8, (512, 256), (16, 256))
    assert bytes_of(eight) < 0.255 * bytes_of(layer) and bytes_of(four) < 0.145 * bytes_of(layer)


def test_what_is_kept_of_tables():
    for layer, most in ((Embedding(1000, 384, rngs=RNGS), 0.255), (StackedTable(2 * BLOCK, 17, rngs=RNGS), 0.255)):
        made = QuantizedTable(layer, Format(), rounded)
        assert made.embedding.dtype == jnp.int8 and bytes_of(made) < most * bytes_of(layer)
    assert made.embedding_scale.shape == (2, 17)
    four = QuantizedTable(Embedding(1000, 384, rngs=RNGS), KINDS["int4"], rounded)
    assert four.embedding.shape == (1000, 192) and bytes_of(four) < 0.145 * 1000 * 384 * 4


def test_four_bits_need_pairs_and_groups():
    four = KINDS["int4"]
    assert [tiling(four, inputs) for inputs in (64, 128, 96, 48, 16)] == [(4, 64), (4, 64), (4, 48), (4, 48), (4, 16)]
    assert [tiling(four, inputs) for inputs in (63, 2 * 67)] == [(8, 63), (8, 134)]
    assert tiling(Format(bits=4, group=32), 128) == (4, 32)


def test_packing_keeps_every_integer():
    values = jnp.asarray(np.tile(np.arange(-8, 8), 4).reshape(16, 4), jnp.int8)
    assert pack(values).shape == (8, 4) and pack(values).dtype == jnp.uint8
    np.testing.assert_array_equal(unpack(pack(values)), values)


@pytest.mark.parametrize("width, kind", [(128, "int8"), (128, "int4"), (20, "int8")])
def test_a_table_as_an_output_head(width, kind):
    layer, x = Embedding(300, width, rngs=RNGS), normal(3, width)
    made = QuantizedTable(layer, KINDS[kind], rounded)
    table = np.stack([made(jnp.int32(row)) for row in range(300)])
    np.testing.assert_allclose(made.attend(x), np.asarray(x.astype(jnp.bfloat16)) @ table.T, atol=2e-2 * 0.2)


def test_rows_beyond_a_table_and_too_many_places():
    table = QuantizedTable(Embedding(300, 128, rngs=RNGS), Format(), rounded)
    np.testing.assert_array_equal(table(jnp.array([299, 5000])), table(jnp.array([299, 299])))
    places = ROUNDED[LearnedPositions](LearnedPositions(8, 128, rngs=RNGS), Format(), rounded)
    np.testing.assert_array_equal(places(5), places.at(jnp.arange(5)))
    with pytest.raises(InputError, match="input of 9 tokens, but the model has learned positions for max_length = 8"):
        places(9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear", "conv", "conv1d", "embedding"])
def test_a_layer_that_trains_for_it_computes_as_the_rounded_one(name, kind):
    layer, inputs = LAYERS[name]
    made = ROUNDED[type(layer)](layer, KINDS[kind], rounded)
    made = made if name == "embedding" else scaled(made, inputs)
    aware = AWARE[type(layer)](layer, KINDS[kind], rounded)
    # Of 4 bits the scaled weights are rounded to bfloat16 in one of the two products.
    most = 1e-5 if kind != "int4" else 3e-3
    np.testing.assert_allclose(called(aware, inputs), called(made, inputs), rtol=1e-5, atol=most)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_the_rounding(kind):
    layer, inputs = LAYERS["linear"]
    target = normal(20, 64)
    aware = AWARE[Linear](layer, KINDS[kind], rounded)

    def gradients(layer):
        graph, params = nnx.split(layer)
        loss = lambda params, x: jnp.mean((nnx.merge(graph, params)(x) - target) ** 2)
        by_params, by_x = jax.grad(loss, (0, 1))(params, inputs)
        return by_params["kernel"][...], by_x

    for ours, theirs in zip(gradients(aware), gradients(layer), strict=True):
        cosine = float((ours * theirs).sum() / jnp.linalg.norm(ours) / jnp.linalg.norm(theirs))
        assert cosine > (0.999 if kind != "int4" else 0.99), cosine
        assert 0.95 < float(jnp.linalg.norm(ours) / jnp.linalg.norm(theirs)) < 1.05
