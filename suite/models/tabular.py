"""Networks for tables: numbers by bins, categories, and vectors of texts or pictures, joined by an ensemble of MLPs.

The body is TabM (`Gorishniy et al., 2024 <https://arxiv.org/abs/2410.24210>`_): an MLP whose k members share every
matrix and have scales and shifts of their own (BatchEnsemble, `Wen et al., 2020 <https://arxiv.org/abs/2002.06715>`_).
Each member is trained by its own loss, and the answer is their mean. Numbers enter piecewise-linearly encoded
(`Gorishniy et al., 2022 <https://arxiv.org/abs/2203.05556>`_). On the collections of `TabArena
<https://arxiv.org/abs/2506.16791>`_, TabM and RealMLP are the networks without pre-training that keep up with boosted
trees.

Two vectors or more also meet in products (`Kim et al., 2017 <https://arxiv.org/abs/1610.04325>`_): whether a text says
what a picture shows is a matter of both, which a sum of what each says cannot tell.

Dims: b batch, i numbers, n bins, e width of an embedding, s values of categories and lists, w values of lists, k
members, d width of a layer, o outputs.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.nn import Dropout, Linear
from suite.nn.table import StackedTable, pooled
from suite.parallel.layout import edge

_UNIFORM = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_ROWS = nnx.initializers.normal(0.5)


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the inputs, which the task states, and of the network."""

    inputs: int = 0
    """Numbers an example. 0: from the task."""
    bins: int = 0
    """Bins of each number. 0: from the task."""
    rows: int = 0
    """Rows of the table of categories and of items of lists. 0: from the task."""
    fields: int = 0
    """Columns of one category. 0: from the task."""
    lists: tuple[int, ...] = ()
    """Items of each column of lists. Empty: from the task."""
    vectors: tuple[int, ...] = ()
    """Sizes of the vectors that other parts of the model make of an example. Empty: from the task."""
    interaction: int = 0
    """Width of the space in which each two vectors of other parts are multiplied. 0: they are not."""
    outputs: int = 0
    """Values predicted. 0: from the task."""
    embedding: int = 16
    """Width of what each number and each category becomes."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers, first to last."""
    members: int = 8
    """Networks that share the matrices."""
    dropout: float = 0.1
    """Fraction of each hidden layer that training drops."""
    vector_dropout: float = 0.3
    """Fraction of the vectors of other parts that training drops."""

    def __post_init__(self):
        check_sizes(self, 0, "inputs", "bins", "rows", "fields", "outputs", "interaction")
        check_sizes(self, 1, "embedding", "members")
        check_fractions(self, "dropout", "vector_dropout")
        for name in ("hidden", "lists", "vectors"):
            if any(size < 1 for size in getattr(self, name)):
                raise InputError(f"field model.{name}", "sizes must be at least 1", found=str(getattr(self, name)))

    @property
    def features(self) -> int:
        """Width of what enters the first layer."""
        products = math.comb(len(self.vectors), 2) * (self.interaction + 1 if self.interaction else 0)
        return (self.inputs + self.fields + len(self.lists)) * self.embedding + sum(self.vectors) + products

    def build(self, *, rngs: nnx.Rngs) -> "TabM":
        check_given(self, "outputs")
        if not self.features:
            raise InputError("field model.inputs", "there is nothing to predict from", fix="name columns of the data")
        return TabM(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        # A rule that matches nothing is an error: there may be no categories, or no hidden layer.
        return (SHARDING[:1] if self.tables else ()) + (SHARDING[1:] if self.hidden else ())

    @property
    def tables(self) -> dict[str, str]:
        return {"table/embedding": "ids"} if self.fields or self.lists else {}

    def layer_of(self, path: str) -> int:
        match = re.search(r"^layers\W(\d+)", path)
        return int(match[1]) if match else 0 if not path.startswith("head") else self.depth

    @property
    def depth(self) -> int:
        return len(self.hidden)

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING


class BinEmbedding(nnx.Module):
    """A vector of each number: an affine map of its own of the bins and of the value, then ReLU.

    Attributes:
        kernel: (i, n + 1, e).
        bias: (i, e).
    """

    def __init__(self, inputs: int, bins: int, width: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=1, out_axis=2, batch_axis=0)
        self.kernel = nnx.Param(init(rngs.params(), (inputs, bins + 1, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((inputs, width)))

    def __call__(self, x: Float[Array, "b i"], bins: Float[Array, "b i n"]) -> Float[Array, "b i e"]:
        # A value far out moves the embedding little.
        bounded = x / jnp.sqrt(1 + jnp.square(x / 3))
        encoded = jnp.concatenate([bins, bounded[..., None]], -1)
        return jax.nn.relu(jnp.einsum("bin,ine->bie", encoded, self.kernel[...]) + self.bias[...])


class Products(nnx.Module):
    """Each two vectors of an example, mapped to one space and to length one, multiplied place by place; the sum of the
    products, which is the cosine, stands beside them.

    Attributes:
        maps: linear, of each vector.
    """

    def __init__(self, vectors: Sequence[int], width: int, *, rngs: nnx.Rngs):
        self.maps = nnx.List([Linear(size, width, rngs=rngs) for size in vectors])
        self.width = width

    def __call__(self, vectors: Sequence[Float[Array, "b _"]]) -> list[Float[Array, "b _"]]:
        mapped = [layer(vector) for layer, vector in zip(self.maps, vectors, strict=True)]
        unit = [x * lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6) for x in mapped]
        products = [a * b for a, b in combinations(unit, 2)]
        # As large as the values of the other features.
        return [jnp.concatenate([self.width * x, self.width**0.5 * x.sum(-1, keepdims=True)], -1) for x in products]


class MemberLinear(nnx.Module):
    """An affine map that all members share but for the scales around the matrix and the shift.

    Attributes:
        linear: the matrix.
        before: (k, inputs) scales; of the first layer random signs, which make the members differ; one elsewhere.
        after: (k, outputs) scales, one at first.
        shift: (k, outputs), zero at first.
    """

    def __init__(self, inputs: int, outputs: int, members: int, *, rngs: nnx.Rngs, first: bool):
        self.linear = Linear(inputs, outputs, rngs=rngs, use_bias=False, init=_UNIFORM)
        signs = jax.random.rademacher(rngs.params(), (members, inputs), jnp.float32)
        self.before = nnx.Param(signs if first else jnp.ones((members, inputs)))
        self.after = nnx.Param(jnp.ones((members, outputs)))
        self.shift = nnx.Param(jnp.zeros((members, outputs)))

    def __call__(self, x: Float[Array, "b k d"]) -> Float[Array, "b k f"]:
        return self.linear(x * self.before[...]) * self.after[...] + self.shift[...]


class Heads(nnx.Module):
    """A linear layer of each member's own.

    Attributes:
        kernel: (k, d, o).
        bias: (k, o), zero at first.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=1, out_axis=2, batch_axis=0)
        self.kernel = nnx.Param(init(rngs.params(), (members, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((members, outputs)))

    def __call__(self, x: Float[Array, "b k d"]) -> Float[Array, "b k o"]:
        return jnp.einsum("bkd,kdo->bko", x, self.kernel[...]) + self.bias[...]


class TabM(nnx.Module):
    """Outputs of each member.

    Attributes:
        numbers: vectors of the numbers, or None.
        table: vectors of categories and of items of lists, or None.
        products: of the vectors of other parts, or None.
        layers: hidden layers.
        head: outputs.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        width, members = config.embedding, config.members
        self.numbers = BinEmbedding(config.inputs, config.bins, width, rngs=rngs) if config.inputs else None
        table = bool(config.tables)
        self.table = StackedTable(config.rows, width, rngs=rngs, init=_ROWS) if table else None
        widths = (config.features, *config.hidden)
        self.layers = nnx.List(
            [MemberLinear(i, o, members, rngs=rngs, first=place == 0) for place, (i, o) in enumerate(pairwise(widths))]
        )
        multiplied = config.interaction and len(config.vectors) > 1
        self.products = Products(config.vectors, config.interaction, rngs=rngs) if multiplied else None
        self.head = Heads(members, widths[-1], config.outputs, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.vector_dropout = Dropout(config.vector_dropout)

    def __call__(
        self,
        dense: Float[Array, "b i"],
        bins: Float[Array, "b i n"],
        ids: Int[Array, "b s"],
        weights: Float[Array, "b w"],
        vectors: Sequence[Float[Array, "b _"]] = (),
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b k o"]:
        """Outputs of each member.

        Args:
            dense: numbers, normalised.
            bins: the same, piecewise-linearly encoded: see `piecewise_linear`.
            ids: row numbers in the table: one of each category, then those of each list, in the order of ``lists``.
            weights: of the values of lists, 0 for padding.
            vectors: of other parts, in the order of ``config.vectors``.
            rngs: given in training.
        """
        config, rows = self.config, dense.shape[0]
        features = []
        if self.numbers is not None:
            features.append(self.numbers(dense, bins).reshape(rows, -1))
        if self.table is not None:
            features.append(pooled(self.table(ids), weights, config.fields, config.lists).reshape(rows, -1))
        vectors = [self.vector_dropout(vector, rngs) for vector in vectors]
        features += vectors
        if self.products is not None:
            features += self.products(vectors)
        x = jnp.concatenate(features, -1)
        x = jnp.broadcast_to(x[:, None], (rows, config.members, x.shape[-1]))
        for layer in self.layers:
            x = edge(self.dropout(jax.nn.relu(layer(x)), rngs))
        return self.head(x)


def piecewise_linear(x: Float[Array, "b i"], edges: Float[Array, "i n1"]) -> Float[Array, "b i n"]:
    """How far each number has come through each bin: 1 through those below it, 0 through those above it.

    Below the first bin and beyond the last, the value goes on linearly, to at most three times the bin's width. Of
    edges that are equal, as where a number has fewer bins than others, nothing comes: 0.
    """
    width = jnp.diff(edges, axis=-1)
    share = (x[..., None] - edges[:, :-1]) / jnp.where(width > 0, width, 1)
    place = jnp.arange(width.shape[-1])
    last = (width > 0).sum(-1, keepdims=True) - 1
    low = jnp.where(place == 0, -3.0, 0.0)
    high = jnp.where(place == last, 4.0, 1.0)
    return jnp.where(width > 0, jnp.clip(share, low, high), 0.0)


SHARDING = ((r"table/embedding$", P("fsdp")), (r"layers/\d+/linear/kernel$", P("fsdp", "tensor")))

PRUNING = (
    Units(
        kind="hidden",
        field="hidden",
        made=(("layers/{i}/linear/kernel", 1), ("layers/{i}/after", 1), ("layers/{i}/shift", 1)),
        used=(("layers/{i+1}/linear/kernel", 0), ("layers/{i+1}/before", 1)),
    ),
)

IMPORTS: dict[str, Any] = {}
