"""Layers whose weights are rounded to 8 or 4 bits: a value is an integer times a scale that several share.

Of 8 bits, each output of a layer has a scale, and so has each row of a table; of 4 bits, each group of inputs. Products
take the integers, widened to bfloat16, and scale the float32 result; or, where inputs are rounded too, multiply
integers (`suite.nn.quant.int8`). Nothing keeps a float copy of the weights. Norms, biases and small layers stay
float32.

Dims: b batch, t frames, n rows of a matrix, i inputs, o outputs, d width, v rows of a table, k taps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Int8, UInt8

from suite.nn.conv import Conv
from suite.nn.conv1d import Conv1d, DepthwiseConv1d, PositionalConv, conv1d, depthwise_conv1d, grouped_conv1d, tap_norm
from suite.nn.dot import dot_nt
from suite.nn.embedding import Embedding, LearnedPositions, check_length
from suite.nn.linear import Linear
from suite.nn.quant.int8 import bfloat16_dot, integer_conv, integer_dot, narrowed, weight_conv, weight_dot
from suite.nn.quant.rounding import rounded, step
from suite.nn.table import StackedTable

Inputs = Literal["float", "row", "fixed"]
"""How a layer's inputs enter its product: in bfloat16; as int8, each row (image, recording) with a scale of its own; or
as int8 by one scale that was found before."""

Round = Callable[[Array, int, int], tuple[Array, Array]]
"""(matrix (n, o), bits, tile) -> integers int8 (n, o) and scales (n / tile, o), one for ``tile`` rows of a column."""

NARROW = 128
"""Width from which on a row of a table has a scale of its own; columns of narrower ones have one for ``BLOCK`` rows."""
BLOCK = 4096
_FEWEST = 16
"""Inputs that share a scale at the least, where integers have 4 bits."""


@dataclass(frozen=True)
class Format:
    """How weights and inputs are held.

    Attributes:
        bits: of a weight, 8 or 4.
        group: of 4 bits, inputs that share a scale.
        inputs: see `Inputs`.
    """

    bits: int = 8
    group: int = 64
    inputs: Inputs = "float"


def blank(matrix: Float[Array, "n o"], bits: int, tile: int) -> tuple[Array, Array]:
    """A `Round` for a model whose values will be read: shapes alone."""
    return jnp.zeros(matrix.shape, jnp.int8), jnp.ones((matrix.shape[0] // tile, matrix.shape[1]), jnp.float32)


def tiling(how: Format, inputs: int) -> tuple[int, int]:
    """(bits, inputs that share a scale). 4 bits where inputs come in pairs and in groups of some size, else 8."""
    if how.bits == 4 and inputs % 2 == 0:
        tile = next(size for size in range(min(how.group, inputs), 0, -1) if inputs % size == 0)
        if tile >= _FEWEST:
            return 4, tile
    return 8, inputs


def pack(values: Int8[Array, "n o"]) -> UInt8[Array, "n/2 o"]:
    """Integers of -8 to 7, two in a byte: row r in its low half, row r + n/2 in its high half."""
    low, high = jnp.split((values + 8).astype(jnp.uint8), 2)
    return low | (high << 4)


def unpack(packed: UInt8[Array, "n/2 o"]) -> Int8[Array, "n o"]:
    """The inverse of `pack`."""
    return jnp.concatenate([packed & 15, packed >> 4]).astype(jnp.int8) - 8


class Rounded(nnx.Module):
    """What layers with a rounded kernel share.

    Attributes:
        kernel: int8 of the float kernel's shape; of 4 bits uint8 (n / 2, o), the kernel as a matrix, see `pack`.
        kernel_scale: (n / tile, o).
        bias: (o,), or None.
        input_scale: () where inputs are "fixed", else None.
    """

    def hold(self, kernel: Array, bias: nnx.Param | None, how: Format, round: Round) -> None:
        """Round ``kernel`` (..., o), all axes but the last being inputs."""
        matrix = kernel.reshape(-1, kernel.shape[-1])
        bits, tile = tiling(how, matrix.shape[0])
        values, scale = round(matrix, bits, tile)
        self.kernel = nnx.Param(pack(values) if bits == 4 else values.reshape(kernel.shape))
        self.kernel_scale = nnx.Param(scale)
        self.bias = bias
        self.shape = kernel.shape
        self.inputs = how.inputs
        self.input_scale = nnx.Param(jnp.ones(())) if self.inputs == "fixed" else nnx.data(None)

    def _weights(self) -> tuple[Array, Array | float]:
        """The kernel for a product, and what the product is to be multiplied by."""
        kernel, scale = self.kernel[...], self.kernel_scale[...]
        if kernel.dtype == jnp.int8:
            return kernel, scale[0]
        values = unpack(kernel).reshape(scale.shape[0], -1, scale.shape[1])
        return narrowed(values * scale[:, None]).reshape(self.shape), 1.0

    def _operand(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array | float]:
        """The inputs for a product, and what the product is to be multiplied by; ``axes`` share a scale."""
        if self.inputs == "float":
            return x, 1.0
        scale = step(x, axes) if self.input_scale is None else self.input_scale[...]
        return rounded(x, scale), scale

    def _plus_bias(self, y: Array) -> Array:
        return y if self.bias is None else y + self.bias[...]


class QuantizedLinear(Rounded):
    """A `Linear` with rounded weights. Attributes: see `Rounded`."""

    def __init__(self, layer: Linear, how: Format, round: Round):
        self.hold(layer.kernel[...], layer.bias, how, round)

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        w, scale = self._weights()
        x, factor = self._operand(x, (-1,))
        product = bfloat16_dot if w.dtype == jnp.bfloat16 else integer_dot if x.dtype == jnp.int8 else weight_dot
        return self._plus_bias(product(x, w) * (scale * factor))


class QuantizedConv(Rounded):
    """A `Conv` with rounded weights. Attributes: see `Rounded`; ``stride``, ``padding`` and ``groups`` as there."""

    def __init__(self, layer: Conv, how: Format, round: Round):
        self.hold(layer.kernel[...], layer.bias, how, round)
        self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        w, scale = self._weights()
        x, factor = self._operand(x, (1, 2, 3))
        convolution = integer_conv if x.dtype == jnp.int8 else weight_conv
        return self._plus_bias(convolution(x, w, self.stride, self.padding, self.groups) * (scale * factor))


class QuantizedConv1d(Rounded):
    """A `Conv1d` with rounded weights. Attributes: see `Rounded`; ``stride``, ``padding`` and ``dilation`` as there."""

    def __init__(self, layer: Conv1d, how: Format, round: Round):
        self.hold(layer.kernel[...], layer.bias, how, round)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u o"]:
        w, scale = self._weights()
        x, factor = self._operand(x, (1, 2))
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        return self._plus_bias(conv1d(x, w, self.stride, "bfloat16", self.dilation) * (scale * factor))


class QuantizedDepthwise(Rounded):
    """A `DepthwiseConv1d` whose weights have 8 bits and are float32 in the product. Attributes: see `Rounded`."""

    def __init__(self, layer: DepthwiseConv1d, how: Format, round: Round):
        self.hold(layer.kernel[...], layer.bias, Format(), round)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        taps = self.shape[0]
        x = jnp.pad(x, ((0, 0), ((taps - 1) // 2, taps // 2), (0, 0)))
        return self._plus_bias(depthwise_conv1d(x, self.kernel[...].astype(jnp.float32)) * self.kernel_scale[0])


class QuantizedPositionalConv(Rounded):
    """A `PositionalConv` whose kernel, its weight norm applied, has 8 bits. Attributes: see `Rounded`."""

    def __init__(self, layer: PositionalConv, how: Format, round: Round):
        direction = layer.direction[...]
        self.hold(direction * (layer.gain[...] / tap_norm(direction)), layer.bias, Format(), round)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        taps = self.shape[0]
        x = jnp.pad(x, ((0, 0), (taps // 2, (taps - 1) // 2), (0, 0)))
        return self._plus_bias(grouped_conv1d(x, self.kernel[...].astype(jnp.float32)) * self.kernel_scale[0])


class QuantizedTable(nnx.Module):
    """An `Embedding` or a `StackedTable` with rounded rows.

    Attributes:
        embedding: int8 (v, d); of 4 bits uint8 (v, d / 2), `pack` along the width.
        embedding_scale: (v, d / tile), a scale for each row or each group of it; of narrow tables (v / BLOCK, d).
    """

    def __init__(self, layer: Embedding | StackedTable | LearnedPositions, how: Format, round: Round):
        table = layer.embedding[...]
        self.size, self.width = table.shape
        if self.width >= NARROW:
            bits, tile = tiling(how, self.width)
            values, scale = round(table.T, bits, tile)
            self.block = 1
            self.embedding = nnx.Param((pack(values) if bits == 4 else values).T)
            self.embedding_scale = nnx.Param(scale.T)
        else:
            self.block = BLOCK
            filled = jnp.pad(table, ((0, -self.size % BLOCK), (0, 0)))
            values, scale = round(filled, 8, BLOCK)
            self.embedding, self.embedding_scale = nnx.Param(values[: self.size]), nnx.Param(scale)

    def __call__(self, index: Int[Array, "..."]) -> Float[Array, "... d"]:
        """Rows ``index``; one past either end takes the row at that end."""
        index = jnp.clip(index, 0, self.size - 1)
        scale = self.embedding_scale[...]
        # A table of one block: no second look-up.
        spread = scale[0] if scale.shape[0] == 1 else _rows(scale, index // self.block)
        return self._floats(_rows(self.embedding[...], index), spread)

    def attend(self, x: Float[Array, "... d"]) -> Float[Array, "... v"]:
        """The dot product of ``x`` with every row: the logits of an output head tied to the table."""
        table, scale = self.embedding[...], self.embedding_scale[...]
        if scale.shape == (self.size, 1):
            return dot_nt(x, table, "bfloat16") * scale[:, 0]
        if self.block > 1:
            scale = jnp.repeat(scale, self.block, 0)[: self.size]
        return dot_nt(x, self._floats(table, scale), "bfloat16")

    def _floats(self, rows: Array, scale: Float[Array, "... s"]) -> Float[Array, "... d"]:
        """Rows (..., d) of the table with their scales, one for each ``d / s`` columns."""
        if rows.dtype == jnp.uint8:
            rows = jnp.concatenate([rows & 15, rows >> 4], -1).astype(jnp.int8) - 8
        return rows * jnp.repeat(scale, self.width // scale.shape[-1], -1)


def _rows(table: Array, index: Int[Array, "..."]) -> Array:
    """Rows that are there."""
    return table.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


class QuantizedPositions(QuantizedTable):
    """`LearnedPositions` with rounded rows. Attributes: see `QuantizedTable`."""

    def __init__(self, layer: LearnedPositions, how: Format, round: Round):
        QuantizedTable.__init__(self, layer, Format(), round)

    def __call__(self, length: int) -> Float[Array, "t d"]:  # type: ignore[override]
        """The first ``length`` vectors.

        Raises:
            InputError: there are fewer.
        """
        check_length(length, self.size)
        return self.at(jnp.arange(length))

    def at(self, places: Int[Array, "..."]) -> Float[Array, "... d"]:
        """The vectors of ``places``; a place past the last has that one's."""
        return QuantizedTable.__call__(self, places)
