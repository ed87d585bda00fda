"""Multi-task click models: one set of embeddings for several goals, with experts that each goal mixes by itself.

MMoE (`Ma et al., 2018 <https://doi.org/10.1145/3219819.3220007>`_): the goals share experts, and a gate a goal says how
much each expert counts for a record. Beside it a bottom that all goals share (`Caruana, 1997
<https://doi.org/10.1023/A:1007379606734>`_), and models of the same size that share nothing, for comparison.

Dims: b batch, i numbers, s values an example, w values of lists, x features, e experts, d width of an expert, g goals.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.nn import Dropout, Linear
from suite.nn.interest import HistoryPooling, Interest
from suite.nn.table import StackedTable, pooled
from suite.parallel.layout import edge

Kind = Literal["mmoe", "shared_bottom", "separate"]

_HE = nnx.initializers.he_normal()


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """What the goals share, and sizes."""

    kind: Kind = "mmoe"
    """mmoe: experts, mixed by a gate a goal; shared_bottom: one expert that all goals use; separate: a table of
    embeddings and an expert a goal, as if each had a model of its own."""
    rows: int = 0
    """Rows of the stacked table, of all fields together. 0: from the task."""
    fields: int = 0
    """Fields of one category. 0: from the task."""
    lists: tuple[int, ...] = ()
    """Values of each field that holds a list. (): from the task."""
    inputs: int = 0
    """Numbers an example. 0: from the task."""
    outputs: int = 0
    """Goals. 0: from the task."""
    width: int = 16
    """Size of a field's embedding."""
    experts: int = 4
    """Experts of mmoe."""
    hidden: tuple[int, ...] = (64,)
    """Widths of an expert, first to last."""
    tower: tuple[int, ...] = (32,)
    """Widths of what each goal makes of the experts, first to last."""
    dropout: float = 0.0
    """Fraction of the inputs and hidden values that training drops."""
    histories: tuple[tuple[int, int], ...] = ()
    """(list, field) places of each history and of the candidate that it is compared with. (): from the task."""
    history_pooling: HistoryPooling = "mean"
    """How the vectors of a history's items become one: by the weights that the task gives them, a mean or sum; by their
    attention to the candidate, which multiplies these weights; or by a softmax of that attention."""
    attention_hidden: tuple[int, ...] = (36,)
    """Hidden widths of the attention's network."""

    def __post_init__(self):
        check_choices(self, {"kind": get_args(Kind), "history_pooling": get_args(HistoryPooling)})
        check_sizes(self, 0, "rows", "fields", "inputs", "outputs")
        check_sizes(self, 1, "width", "experts")
        check_fractions(self, "dropout")
        for name in ("hidden", "tower", "lists", "attention_hidden"):
            if any(size < 1 for size in getattr(self, name)):
                raise InputError(f"field model.{name}", "sizes must be at least 1", found=str(getattr(self, name)))
        if not self.hidden:
            raise InputError("field model.hidden", "an expert has at least one layer", fix="--model.hidden 64")

    @property
    def copies(self) -> int:
        """Tables of embeddings, side by side."""
        return self.outputs if self.kind == "separate" else 1

    @property
    def bottoms(self) -> int:
        """Networks below the towers."""
        return {"mmoe": self.experts, "shared_bottom": 1, "separate": self.outputs}[self.kind]

    @property
    def features(self) -> int:
        """Width of what a bottom is given."""
        return (self.fields + len(self.lists)) * self.width + self.inputs

    @property
    def attends(self) -> bool:
        """Whether histories are compared with their candidates."""
        return bool(self.histories) and self.history_pooling != "mean"

    def build(self, *, rngs: nnx.Rngs) -> "Multitask":
        check_given(self, "rows", "outputs")
        if not self.features:
            raise InputError("field model.fields", "there is nothing to predict from", fix="name columns of the data")
        return Multitask(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def tables(self) -> dict[str, str]:
        return {"table/embedding": "ids"}

    @property
    def head(self) -> str:
        return r"^towers/\d+/head/"


class Network(nnx.Module):
    """Layers with ReLU and dropout.

    Attributes:
        layers: first to last.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], dropout: float, *, rngs: nnx.Rngs):
        sizes = (inputs, *widths)
        self.layers = nnx.List([Linear(i, o, rngs=rngs, init=_HE) for i, o in pairwise(sizes)])
        self.dropout = Dropout(dropout)

    def __call__(self, x: Float[Array, "b x"], rngs: nnx.Rngs | None) -> Float[Array, "b d"]:
        for layer in self.layers:
            x = edge(self.dropout(jax.nn.relu(layer(x)), rngs))
        return x


class Tower(nnx.Module):
    """What one goal makes of the experts.

    Attributes:
        network: its layers.
        head: to the answer.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], dropout: float, *, rngs: nnx.Rngs):
        self.network = Network(inputs, widths, dropout, rngs=rngs)
        self.head = Linear((inputs, *widths)[-1], 1, rngs=rngs)

    def __call__(self, x: Float[Array, "b d"], rngs: nnx.Rngs | None) -> Float[Array, "b"]:
        return self.head(self.network(x, rngs))[:, 0]


class Multitask(nnx.Module):
    """What is predicted of each goal: the log odds of an event, or a number.

    Attributes:
        table: (rows, width), of separate goals their tables side by side.
        interests: the attention of histories to their candidates, of each table; empty where there is none.
        bottoms: the experts, or the bottom of all goals, or of each.
        gates: of each goal, from the features to a weight an expert; empty without experts.
        towers: of each goal.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.table = StackedTable(config.rows, config.width * config.copies, rngs=rngs)
        interests = config.copies if config.attends else 0
        self.interests = nnx.List([Interest(config, rngs=rngs) for _ in range(interests)])
        dropout, wide = config.dropout, config.hidden[-1]
        self.bottoms = nnx.List(
            [Network(config.features, config.hidden, dropout, rngs=rngs) for _ in range(config.bottoms)]
        )
        gates = config.outputs if config.kind == "mmoe" else 0
        self.gates = nnx.List(
            [Linear(config.features, config.experts, rngs=rngs, use_bias=False) for _ in range(gates)]
        )
        self.towers = nnx.List([Tower(wide, config.tower, dropout, rngs=rngs) for _ in range(config.outputs)])
        self.dropout = Dropout(dropout)

    def __call__(
        self,
        dense: Float[Array, "b i"],
        ids: Int[Array, "b s"],
        weights: Float[Array, "b w"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b g"]:
        """Log odds, or numbers, of the goals.

        Args:
            dense: numbers, normalised.
            ids: row numbers in the stack: one of each field, then those of each list, in the order of ``lists``.
            weights: of the values of lists, 0 for padding; they say whether a list is averaged or summed.
            rngs: given in training.
        """
        config, values = self.config, self.table(ids)
        features = [
            self.dropout(self._features(place, part, dense, weights), rngs)
            for place, part in enumerate(jnp.split(values, config.copies, -1))
        ]
        if config.kind == "separate":
            mixed = [bottom(own, rngs) for bottom, own in zip(self.bottoms, features, strict=True)]
        elif config.kind == "shared_bottom":
            mixed = [self.bottoms[0](features[0], rngs)] * config.outputs
        else:
            experts = jnp.stack([bottom(features[0], rngs) for bottom in self.bottoms], 1)
            shares = [jax.nn.softmax(gate(features[0]).astype(jnp.float32)) for gate in self.gates]
            mixed = [jnp.einsum("be,bed->bd", share.astype(experts.dtype), experts) for share in shares]
        return jnp.stack([tower(one, rngs) for tower, one in zip(self.towers, mixed, strict=True)], -1)

    def _features(
        self, place: int, values: Float[Array, "b s d"], dense: Float[Array, "b i"], weights: Float[Array, "b w"]
    ) -> Float[Array, "b x"]:
        """All embeddings of one table end to end, and the numbers."""
        config = self.config
        if config.attends:
            weights = self.interests[place](values, weights)
        vectors = pooled(values, weights, config.fields, config.lists)
        return jnp.concatenate([vectors.reshape(vectors.shape[0], -1), dense], -1)


SHARDING = ((r"table/embedding$", P("fsdp")),)

PRUNING: tuple[Any, ...] = ()

IMPORTS: dict[str, Any] = {}
