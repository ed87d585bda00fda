"""Vectors of items from their tags: the mean of a vector for each tag, which is added to the item's own.

Dims: m pairs of an item and a tag, n items, d width.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from suite.contracts.model import ModelConfig
from suite.models.checks import check_given, check_sizes
from suite.nn import Embedding


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the table of tags."""

    size: int = 0
    """Rows of the table. 0: from the task."""
    width: int = 64
    """Size of a tag's vector: that of an item's."""

    def __post_init__(self):
        check_sizes(self, 0, "size")
        check_sizes(self, 1, "width")

    def build(self, *, rngs: nnx.Rngs) -> "Tags":
        check_given(self, "size")
        return Tags(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING


class Tags(nnx.Module):
    """Weighted sums of the rows of a table.

    Attributes:
        table: the vectors of the tags.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.table = Embedding(config.size, config.width, rngs=rngs)

    def __call__(
        self, items: Int[Array, " m"], tags: Int[Array, " m"], weights: Float[Array, " m"], count: int
    ) -> Float[Array, "n d"]:
        """What each item's tags add up to.

        Args:
            items: places of the items, rising.
            tags: a tag of each.
            weights: of each pair.
            count: n.
        """
        rows = self.table(tags) * weights[:, None]
        return jax.ops.segment_sum(rows, items, count, indices_are_sorted=True)


SHARDING = ((r"table\Wembedding$", P("tensor", "fsdp")),)

IMPORTS: dict[str, Any] = {}
