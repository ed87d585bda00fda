"""Tower: a vector for each user, or each item, as the sum of one of its own and those of its attributes.

A vector of its own says what is known of what was met in training; attributes say something of what is new. Training
leaves out some of the own vectors, so that attributes alone are enough (DropoutNet, `Volkovs et al., 2017
<https://proceedings.neurips.cc/paper/2017/hash/dbd22ba3bd0df8f385bdac3e9f8be207-Abstract.html>`_).

Dims: b batch, k rows that a record names, s tokens of attributes, d width.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.nn import Dropout
from suite.nn.table import StackedTable
from suite.parallel.layout import alone, for_rows


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Sizes of the tables."""

    rows: int = 0
    """Rows of the table of own vectors. 0: from the task."""
    features: int = 0
    """Rows of the table of attributes. 0: from the task; none where it has none."""
    width: int = 64
    """Size of a vector."""
    id_dropout: float = 0.0
    """Fraction of the own vectors that training drops, of records that have attributes."""
    dropout: float = 0.0
    """Fraction of the tokens of attributes that training drops."""
    scale: float = 0.1
    """Standard deviation of the initial vectors."""

    def __post_init__(self):
        check_sizes(self, 0, "rows", "features")
        check_sizes(self, 1, "width")
        check_fractions(self, "id_dropout", "dropout")

    def build(self, *, rngs: nnx.Rngs) -> "Tower":
        check_given(self, "rows")
        return Tower(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def tables(self) -> dict[str, str]:
        paths = {"own/embedding": "ids"}
        return {**paths, "attributes/embedding": "features"} if self.features else paths


class Tower(nnx.Module):
    """Vectors by row and by attributes.

    Attributes:
        own: (rows, d).
        attributes: (features, d), or None.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(config.scale)
        self.own = StackedTable(config.rows, config.width, rngs=rngs, init=init)
        self.attributes = StackedTable(config.features, config.width, rngs=rngs, init=init) if config.features else None
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        ids: Int[Array, "b k"],
        features: Int[Array, "b s"] | None = None,
        weights: Float[Array, "b s"] | None = None,
        mask: Bool[Array, "b s"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b k d"]:
        """Vectors of the rows of each record, the attributes being those of all of them.

        Args:
            ids: rows of the table; negative where there is none.
            features: rows of the tokens of attributes.
            weights: of the tokens.
            mask: False for padding.
            rngs: given in training.
        """
        known = ids >= 0
        vectors = jnp.where(known[..., None], self.own(ids), 0)
        if self.attributes is None or features is None or weights is None or mask is None:
            return vectors
        vectors = self._dropped(vectors, mask.any(-1), rngs)
        weights = self.dropout(jnp.where(mask, weights, 0), rngs)
        return vectors + jnp.einsum("bs,bsd->bd", weights, self.attributes(features))[:, None]

    def whole(
        self,
        features: Int[Array, "s"],
        weights: Float[Array, "s"],
        owners: Int[Array, "s"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "n d"]:
        """Vectors of all rows of the table.

        Args:
            features: rows of the tokens of attributes of all.
            weights: of the tokens.
            owners: the row whose each token is, rising.
            rngs: given in training.
        """
        own = self.own.embedding[...]
        assert self.attributes is not None
        described = jnp.zeros(len(own), bool).at[jnp.asarray(owners)].set(True)
        with alone():  # rows of the table are not those of a batch, of which each device has some
            vectors = self._dropped(own[:, None], described, rngs)[:, 0]
            kept = self.dropout(jnp.asarray(weights), rngs)
        weighted = kept[:, None] * self.attributes.embedding[...][jnp.asarray(features)]
        return vectors + jax.ops.segment_sum(weighted, jnp.asarray(owners), len(own), indices_are_sorted=True)

    def _dropped(
        self, vectors: Float[Array, "b k d"], described: Bool[Array, "b"], rngs: nnx.Rngs | None
    ) -> Float[Array, "b k d"]:
        """Own vectors, some of those of records with attributes left out."""
        share = self.config.id_dropout
        if rngs is None or not share:
            return vectors
        key = rngs.dropout()
        dropped = for_rows(lambda shape: jax.random.bernoulli(key, share, shape), described.shape)
        return jnp.where((dropped & described)[:, None, None], 0, vectors)


SHARDING = ((r"(own|attributes)/embedding$", P("fsdp")),)

IMPORTS: dict[str, Any] = {}
