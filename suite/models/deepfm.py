"""Click models over shared embeddings: logistic regression, factorisation machine, DNN, and what joins them.

DeepFM (`Guo et al., 2017 <https://arxiv.org/abs/1703.04247>`_), Wide & Deep (`Cheng et al., 2016
<https://arxiv.org/abs/1606.07792>`_), DCN-v2 (`Wang et al., 2020 <https://arxiv.org/abs/2008.13535>`_), and their
parts alone. A number takes part in the factorisation machine as its value times a vector of its own. A history of
earlier items is read by its attention to the candidate item (DIN, `Zhou et al., 2018
<https://arxiv.org/abs/1706.06978>`_).

Dims: b batch, i numbers, f fields (categories and lists), s values an example (a list has several), w values of
lists, d width of an embedding, x features of the deep part.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from suite.contracts.model import ModelConfig
from suite.contracts.units import Units
from suite.errors import InputError
from suite.models.checks import check_choices, check_fractions, check_given, check_sizes
from suite.nn import Dropout, Linear
from suite.nn.interaction import CrossNetwork, pairwise_sum
from suite.nn.interest import HistoryPooling, Interest
from suite.nn.table import StackedTable, pooled
from suite.parallel.layout import edge
from suite.surgery.units import hidden

Kind = Literal["deepfm", "lr", "fm", "dnn", "wide_deep", "dcn"]

_INIT = nnx.initializers.normal(0.01)


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Which parts a click model has, and their sizes."""

    kind: Kind = "deepfm"
    """lr: first order alone; fm: and second order; dnn: the deep part alone; wide_deep: first order and deep part;
    deepfm: all three; dcn: a cross network beside the deep part."""
    rows: int = 0
    """Rows of the stacked table, of all fields together. 0: from the task."""
    fields: int = 0
    """Fields of one category. 0: from the task."""
    lists: tuple[int, ...] = ()
    """Values of each field that holds a list. (): from the task."""
    inputs: int = 0
    """Numbers an example. 0: from the task."""
    width: int = 16
    """Size of a field's embedding."""
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the deep part, first to last."""
    cross_layers: int = 3
    """Layers of the cross network of dcn."""
    dropout: float = 0.0
    """Fraction of the deep part's inputs and hidden values that training drops."""
    histories: tuple[tuple[int, int], ...] = ()
    """(list, field) places of each history and of the candidate that it is compared with. (): from the task."""
    history_pooling: HistoryPooling = "mean"
    """How the vectors of a history's items become one: by the weights that the task gives them, a mean or sum; by their
    attention to the candidate, which multiplies these weights; or by a softmax of that attention."""
    attention_hidden: tuple[int, ...] = (36,)
    """Hidden widths of the attention's network."""

    def __post_init__(self):
        check_choices(self, {"kind": get_args(Kind), "history_pooling": get_args(HistoryPooling)})
        check_sizes(self, 0, "rows", "fields", "inputs")
        check_sizes(self, 1, "width", "cross_layers")
        check_fractions(self, "dropout")
        for name in ("hidden", "lists", "attention_hidden"):
            if any(size < 1 for size in getattr(self, name)):
                raise InputError(f"field model.{name}", "sizes must be at least 1", found=str(getattr(self, name)))

    @property
    def first_order(self) -> bool:
        """Whether each value has a weight of its own."""
        return self.kind in ("lr", "fm", "wide_deep", "deepfm")

    @property
    def second_order(self) -> bool:
        """Whether pairs of fields meet by the dot product of their vectors."""
        return self.kind in ("fm", "deepfm")

    @property
    def deep(self) -> bool:
        """Whether there is a DNN over all embeddings."""
        return self.kind in ("dnn", "wide_deep", "deepfm", "dcn")

    @property
    def attends(self) -> bool:
        """Whether histories are compared with their candidates."""
        return bool(self.histories) and self.history_pooling != "mean"

    @property
    def columns(self) -> int:
        """Width of a row of the table: the embedding, then the first-order weight."""
        return self.width * (self.second_order or self.deep) + self.first_order

    def build(self, *, rngs: nnx.Rngs) -> "DeepFM":
        check_given(self, "rows")
        if not self.fields + len(self.lists) + self.inputs:
            raise InputError("field model.fields", "there is nothing to predict from", fix="name columns of the data")
        if self.attends and self.kind == "lr":
            problem = "there is no attention in logistic regression, which has no vectors."
            fix = "--model.history_pooling mean"
            raise InputError("field model.history_pooling", problem, found=self.history_pooling, fix=fix)
        return DeepFM(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return SHARDING

    @property
    def tables(self) -> dict[str, str]:
        return {"table/embedding": "ids"}

    @property
    def prunable(self) -> tuple[Units, ...]:
        # Of dcn the last layer stays whole: its values share the head with those of the cross network.
        return (*PRUNING, _last(len(self.hidden) - 1)) if self.hidden and self.kind != "dcn" else PRUNING


class DeepFM(nnx.Module):
    """The log odds of a click.

    Attributes:
        table: (rows, columns); the first-order weight is the last column, zero at first.
        bias: ().
        linear: (i,) first-order weights of the numbers, or None.
        vectors: (i, d) of the numbers, for the second order, or None.
        cross: the cross network, or None.
        layers: the deep part.
        head: from the deep part, and from the cross network where there is one; or None.
        interest: the attention of each history to its candidate, or None.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.table = StackedTable(config.rows, config.columns, rngs=rngs, init=_with_zero_weight(config))
        self.bias = nnx.Param(jnp.zeros(()))
        self.linear = nnx.Param(jnp.zeros((config.inputs,))) if config.first_order and config.inputs else None
        vectors = config.second_order and config.inputs
        self.vectors = nnx.Param(_INIT(rngs.params(), (config.inputs, width), jnp.float32)) if vectors else None
        features = (config.fields + len(config.lists)) * width + config.inputs
        self.cross = CrossNetwork(features, config.cross_layers, rngs=rngs) if config.kind == "dcn" else None
        widths = (features, *config.hidden) if config.deep else ()
        init = nnx.initializers.he_normal()
        self.layers = nnx.List([Linear(i, o, rngs=rngs, init=init) for i, o in pairwise(widths)])
        joined = (widths[-1] + (features if self.cross is not None else 0)) if config.deep else 0
        self.head = Linear(joined, 1, rngs=rngs, use_bias=False) if config.deep else None
        self.dropout = Dropout(config.dropout)
        self.interest = Interest(config, rngs=rngs) if config.attends else None

    def __call__(
        self,
        dense: Float[Array, "b i"],
        ids: Int[Array, "b s"],
        weights: Float[Array, "b w"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "b"]:
        """Log odds.

        Args:
            dense: numbers, normalised.
            ids: row numbers in the stack: one of each field, then those of each list, in the order of ``lists``.
            weights: of the values of lists, 0 for padding; they say whether a list is averaged or summed.
            rngs: given in training.
        """
        config = self.config
        values = self.table(ids)
        if self.interest is not None:
            weights = self.interest(values, weights)
        fields = pooled(values, weights, config.fields, config.lists)
        logits = jnp.broadcast_to(self.bias[...], (dense.shape[0],))
        if config.first_order:
            logits += fields[..., -1].sum(-1)
            fields = fields[..., :-1]
        if self.linear is not None:
            logits += dense @ self.linear[...]
        if config.second_order:
            vectors = fields
            if self.vectors is not None:
                vectors = jnp.concatenate([fields, dense[..., None] * self.vectors[...]], 1)
            logits += pairwise_sum(vectors)
        if self.head is not None:
            logits += self._deep(jnp.concatenate([fields.reshape(fields.shape[0], -1), dense], -1), rngs)
        return logits

    def _deep(self, features: Float[Array, "b x"], rngs: nnx.Rngs | None) -> Float[Array, "b"]:
        x = self.dropout(features, rngs)
        for layer in self.layers:
            x = edge(self.dropout(jax.nn.relu(layer(x)), rngs))
        if self.cross is not None:
            x = jnp.concatenate([self.cross(features), x], -1)
        assert self.head is not None
        return self.head(x)[:, 0]


def _with_zero_weight(config: Config) -> Any:
    """The initialiser of the table: small vectors, and a first-order weight of 0 in the last column."""

    def init(key: Array, shape: tuple[int, int], dtype: Any) -> Array:
        drawn = _INIT(key, shape, dtype)
        return drawn.at[:, -1].set(0) if config.first_order else drawn

    return init


SHARDING = ((r"table/embedding$", P("fsdp")),)

PRUNING = (hidden("layers"),)


def _last(place: int) -> Units:
    """The values of the last hidden layer, which the head uses."""
    return Units(
        kind="hidden",
        field="hidden",
        made=((f"layers/{place}/kernel", 1), (f"layers/{place}/bias", 0)),
        used=(("head/kernel", 0),),
        fewer=lambda config, count, _: replace(config, hidden=(*config.hidden[:-1], count)),
    )


IMPORTS: dict[str, Any] = {}
