"""A bag of n-grams: the weighted sum of a table's rows, with a linear path and a deep one.

The linear path alone, over tf-idf weights, is multinomial logistic regression (`Wang & Manning, 2012
<https://aclanthology.org/P12-2018>`_); the deep path alone is fastText (`Joulin et al., 2017
<https://arxiv.org/abs/1607.01759>`_), or with hidden layers a deep averaging network (`Iyyer et al., 2015
<https://aclanthology.org/P15-1162>`_).

Dims: b batch, s n-grams of a text, n rows, d width of a vector, o outputs.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_fractions, check_given, check_sizes
from suite.nn import Dropout, Linear
from suite.nn.table import StackedTable
from suite.parallel.layout import edge
from suite.surgery.units import hidden


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Which paths lead from n-grams to outputs, and their sizes."""

    rows: int = 0
    """N-grams. 0: from the task."""
    outputs: int = 0
    """Values predicted. 0: from the task."""
    linear: bool = True
    """Whether each n-gram has a weight of its own for each output."""
    width: int = 0
    """Size of an n-gram's vector in the deep path. 0: there is none."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers of the deep path, first to last."""
    dropout: float = 0.0
    """Fraction of the deep path's vectors and hidden values that training drops."""
    ngram_dropout: float = 0.0
    """Fraction of a text's n-grams that training drops, for both paths."""

    def __post_init__(self):
        check_sizes(self, 0, "rows", "outputs", "width")
        check_fractions(self, "dropout", "ngram_dropout")
        if any(width < 1 for width in self.hidden):
            raise InputError("field model.hidden", "widths must be at least 1", found=str(self.hidden))

    def build(self, *, rngs: nnx.Rngs) -> "Bag":
        check_given(self, "rows", "outputs")
        if not (self.linear or self.width):
            raise InputError(
                "field model.width",
                "is 0, and there is no linear path: nothing leads from n-grams to outputs.",
                fix="--model.width 32",
            )
        return Bag(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def tables(self) -> dict[str, str]:
        paths = {"linear/embedding": self.linear, "vectors/embedding": bool(self.width)}
        return {path: "ids" for path, there in paths.items() if there}

    @property
    def head(self) -> str:
        return r"^(head|linear|bias)"

    @property
    def prunable(self) -> tuple[Units, ...]:
        return PRUNING if self.width else ()


class Bag(nnx.Module):
    """Outputs of a bag of n-grams: at first all 0.

    Attributes:
        bias: (o,).
        linear: (n, o) weights of the linear path, or None.
        vectors: (n, d) of the deep path, or None.
        layers: hidden layers of the deep path.
        head: from the deep path to the outputs, without a bias; or None.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        zeros, width = nnx.initializers.zeros, config.width
        self.bias = nnx.Param(jnp.zeros((config.outputs,)))
        self.linear = StackedTable(config.rows, config.outputs, rngs=rngs, init=zeros) if config.linear else None
        normal = nnx.initializers.normal(1.0)
        self.vectors = StackedTable(config.rows, width, rngs=rngs, init=normal) if width else None
        widths = (width, *config.hidden) if width else ()
        init = nnx.initializers.he_normal()
        self.layers = nnx.List([Linear(i, o, rngs=rngs, init=init) for i, o in pairwise(widths)])
        # A part of a composite model has what follows learn from its outputs: they must not all be 0.
        last = zeros if config.linear else nnx.initializers.lecun_normal()
        self.head = Linear(widths[-1], config.outputs, rngs=rngs, use_bias=False, init=last) if width else None
        self.dropout = Dropout(config.dropout)
        self.ngram_dropout = Dropout(config.ngram_dropout)

    def __call__(
        self,
        ids: Int[Array, "b s"],
        weights: Float[Array, "b s"],
        mask: Bool[Array, "b s"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b o"]:
        """Outputs of each text.

        Args:
            ids: rows of its n-grams.
            weights: of its n-grams, such as tf-idf.
            mask: False for padding.
            rngs: given in training.
        """
        weights = self.ngram_dropout(jnp.where(mask, weights, 0), rngs)
        outputs = jnp.broadcast_to(self.bias[...], (ids.shape[0], self.bias.shape[0]))
        if self.linear is not None:
            outputs = outputs + _weighted(weights, self.linear(ids))
        if self.vectors is not None and self.head is not None:
            x = self.dropout(_weighted(weights, self.vectors(ids)), rngs)
            for layer in self.layers:
                x = edge(self.dropout(jax.nn.relu(layer(x)), rngs))
            outputs = outputs + self.head(x)
        return outputs


def _weighted(weights: Float[Array, "b s"], rows: Float[Array, "b s d"]) -> Float[Array, "b d"]:
    """The sum of each text's rows by their weights."""
    return jnp.einsum("bs,bsd->bd", weights, rows)


SHARDING = ((r"(linear|vectors)/embedding$", P("fsdp")),)

PRUNING = (hidden("layers"),)

IMPORTS: dict[str, Any] = {}
