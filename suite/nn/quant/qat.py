"""Layers that compute with rounded weights and train float ones (`Jacob et al., 2017 <https://arxiv.org/abs/1712.05877>`_).

The forward pass is that of `suite.nn.quant.layers`; gradients pass the rounding as if it were not there. Parameters are
those of the float layers, by the same names, so that a run trains on from float weights and its own round as they are.

Dims: b batch, t frames, i inputs, o outputs, d width, v rows of a table.
"""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from suite.nn.conv import Conv, conv2d
from suite.nn.conv1d import Conv1d, conv1d
from suite.nn.dot import dot, dot_nt
from suite.nn.embedding import Embedding
from suite.nn.linear import Linear
from suite.nn.quant.layers import NARROW, Format, Round, tiling
from suite.nn.quant.rounding import rounded, step


def _through(values: Array, x: Array) -> Array:
    """``values``, with the gradient of ``x``."""
    return x + lax.stop_gradient(values - x)


def _weights(kernel: Array, how: Format, round: Round) -> tuple[Array, Array | float]:
    """A kernel (..., o) as the rounded layer has it: for the product, and what the product is to be multiplied by."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    bits, tile = tiling(how, matrix.shape[0])
    values, scale = lax.stop_gradient(round(matrix, bits, tile))
    if bits == 8:
        return _through(values.astype(jnp.float32), matrix / scale).reshape(kernel.shape), scale[0]
    spread = (values.reshape(scale.shape[0], -1, scale.shape[1]) * scale[:, None]).reshape(matrix.shape)
    return _through(spread, matrix).reshape(kernel.shape), 1.0


def _inputs(x: Array, how: Format, axes: tuple[int, ...]) -> tuple[Array, Array | float]:
    """Inputs as the rounded layer has them; a scale that is fixed there is here that of the batch."""
    if how.inputs == "float":
        return x, 1.0
    scale = lax.stop_gradient(step(x, axes if how.inputs == "row" else tuple(range(x.ndim))))
    return _through(rounded(lax.stop_gradient(x), scale).astype(jnp.float32), x / scale), scale


class _Aware(nnx.Module):
    """What these layers share.

    Attributes:
        kernel, bias: those of the float layer.
        how: the format that training gets used to.
        round: what rounds weights.
    """

    def take(self, layer: Linear | Conv | Conv1d, how: Format, round: Round) -> None:
        self.kernel, self.bias = layer.kernel, layer.bias
        self.how, self.round = how, round

    def _rounded(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array | float]:
        """Inputs and kernel for a product, and what the product is to be multiplied by."""
        w, scale = _weights(self.kernel[...], self.how, self.round)
        x, factor = _inputs(x, self.how, axes)
        return x, w, scale * factor

    def _plus_bias(self, y: Array) -> Array:
        return y if self.bias is None else y + self.bias[...]


class AwareLinear(_Aware):
    """A `Linear` whose product is that of `QuantizedLinear`. Attributes: see `_Aware`."""

    def __init__(self, layer: Linear, how: Format, round: Round):
        self.take(layer, how, round)

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        x, w, scale = self._rounded(x, (-1,))
        return self._plus_bias(dot(x, w, "bfloat16") * scale)


class AwareConv(_Aware):
    """A `Conv` whose product is that of `QuantizedConv`. Attributes: see `_Aware`, `Conv`."""

    def __init__(self, layer: Conv, how: Format, round: Round):
        self.take(layer, how, round)
        self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        x, w, scale = self._rounded(x, (1, 2, 3))
        return self._plus_bias(conv2d(x, w, self.stride, self.padding, self.groups, "bfloat16") * scale)


class AwareConv1d(_Aware):
    """A `Conv1d` whose product is that of `QuantizedConv1d`. Attributes: see `_Aware`, `Conv1d`."""

    def __init__(self, layer: Conv1d, how: Format, round: Round):
        self.take(layer, how, round)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation

    def __call__(self, x: Float[Array, "b t i"]) -> Float[Array, "b u o"]:
        x, w, scale = self._rounded(x, (1, 2))
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        return self._plus_bias(conv1d(x, w, self.stride, "bfloat16", self.dilation) * scale)


class AwareEmbedding(nnx.Module):
    """A wide `Embedding` whose rows are those of `QuantizedTable`.

    Attributes:
        embedding: the float table.
        how, round: see `_Aware`.
    """

    def __init__(self, layer: Embedding, how: Format, round: Round):
        assert layer.embedding.shape[1] >= NARROW, "columns of narrow tables share scales"
        self.embedding, self.how, self.round = layer.embedding, how, round

    def __call__(self, index: Int[Array, "..."]) -> Float[Array, "... d"]:
        """Rows ``index``; one past either end takes the row at that end."""
        rows = self.embedding[...].at[index].get(mode="clip")
        return self._rows(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)

    def attend(self, x: Float[Array, "... d"]) -> Float[Array, "... v"]:
        """The dot product of ``x`` with every row."""
        return dot_nt(x, self._rows(self.embedding[...]), "bfloat16")

    def _rows(self, rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
        w, scale = _weights(rows.T, self.how, self.round)
        return (w * scale).T
