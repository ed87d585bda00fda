"""Item-item model: the score of an item is the sum of its weights to the items of a history.

Dims: b batch, t items of a history, v items and what stands before them, k neighbours.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_given, check_sizes

DENSE = 20_000
"""Items of which a weight of each to each is kept: 1.6 GB."""


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the weights."""

    vocab_size: int = 0
    """Rows of the weights. 0: from the task."""
    neighbours: int = 0
    """Weights of an item that are kept, the largest. 0: all of them, of a catalogue of 20,000 items at most."""

    def __post_init__(self):
        check_sizes(self, 0, "vocab_size", "neighbours")

    def build(self, *, rngs: nnx.Rngs) -> "ItemWeights | NeighbourWeights":
        check_given(self, "vocab_size")
        if self.neighbours:
            return NeighbourWeights(self.vocab_size, min(self.neighbours, self.vocab_size))
        if self.vocab_size > DENSE + 2:
            raise InputError(
                "field model.neighbours",
                f"is 0: all weights are kept, which takes {4e-9 * self.vocab_size**2:.1f} GB.",
                found=f"{self.vocab_size - 2:,} items, more than {DENSE:,}",
                fix="--task.method filter --model.neighbours 500",
            )
        return ItemWeights(self.vocab_size)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class ItemWeights(nnx.Module):
    """A weight of each item to each.

    Attributes:
        weights: (v, v); row i is what item i of a history adds to the scores.
    """

    def __init__(self, vocab_size: int):
        self.weights = nnx.Param(jnp.zeros((vocab_size, vocab_size)))

    def __call__(self, items: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b v"]:
        """Scores of all items.

        Args:
            items: numbers of the items of histories.
            mask: True where an item is real.
        """
        weights = self.weights[...]
        add = lambda scores, items, real: scores + jnp.where(real[:, None], weights[items], 0)
        return _summed(add, items, mask, weights.shape[0])


class NeighbourWeights(nnx.Module):
    """The largest weights of each item.

    Attributes:
        weights: (v, k).
        neighbours: (v, k) int32, the items that they are to.
    """

    def __init__(self, vocab_size: int, neighbours: int):
        self.weights = nnx.Param(jnp.zeros((vocab_size, neighbours)))
        self.neighbours = nnx.Variable(jnp.zeros((vocab_size, neighbours), jnp.int32))

    def __call__(self, items: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b v"]:
        """As `ItemWeights`. The scores alone have the size of the catalogue."""
        weights, neighbours = self.weights[...], self.neighbours[...]
        rows = jnp.arange(items.shape[0])[:, None]

        def add(scores: jax.Array, items: jax.Array, real: jax.Array) -> jax.Array:
            return scores.at[rows, neighbours[items]].add(jnp.where(real[:, None], weights[items], 0))

        return _summed(add, items, mask, weights.shape[0])


def _summed(add: Any, items: jax.Array, mask: jax.Array, size: int) -> jax.Array:
    """Scores (b, v), one item of each history after another: the sum is the same whatever rows are padded to."""

    def step(scores: jax.Array, item: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return add(scores, *item), None

    scores, _ = jax.lax.scan(step, jnp.zeros((items.shape[0], size), jnp.float32), (items.T, mask.T))
    return scores


SHARDING = ((r"weights$", P("fsdp", None)),)

IMPORTS: dict[str, Any] = {}
