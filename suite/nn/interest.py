"""Interest: how much each item of a history says of the candidate. Dims: b batch, s values an example, w values of
lists, t items of a history, d width of a vector."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from suite.nn.linear import Linear

_NEVER = -1e30
"""Score of padding."""

HistoryPooling = Literal["attention", "softmax", "mean"]


class Histories(Protocol):
    """What the configuration of a model says of its histories."""

    @property
    def fields(self) -> int:
        """Columns of single values."""
        ...

    @property
    def lists(self) -> Sequence[int]:
        """Items of each list."""
        ...

    @property
    def histories(self) -> Sequence[tuple[int, int]]:
        """(list, field) places of each history and of its candidate."""
        ...

    @property
    def width(self) -> int:
        """Size of a vector."""
        ...

    @property
    def attention_hidden(self) -> Sequence[int]:
        """Hidden widths of the network of each history."""
        ...

    @property
    def history_pooling(self) -> HistoryPooling:
        """``"softmax"``: the weights of a history sum to 1; otherwise they tell how strong an interest is, too."""
        ...


class ActivationUnit(nnx.Module):
    """A score of each item, by a small network of the item, the candidate, their difference and their product.

    DIN (`Zhou et al., 2018 <https://arxiv.org/abs/1706.06978>`_), with ReLU in place of its Dice. The last layer is
    zero at first, so that a history begins as its plain mean or sum.

    Attributes:
        layers: the hidden ones.
        head: to the score.
    """

    def __init__(self, width: int, hidden: Sequence[int], *, rngs: nnx.Rngs):
        widths = (4 * width, *hidden)
        init = nnx.initializers.he_normal()
        self.layers = nnx.List([Linear(i, o, rngs=rngs, init=init) for i, o in pairwise(widths)])
        self.head = Linear(widths[-1], 1, rngs=rngs, init=nnx.initializers.zeros)

    def __call__(self, items: Float[Array, "b t d"], candidate: Float[Array, "b d"]) -> Float[Array, "b t"]:
        query = jnp.broadcast_to(candidate[:, None], items.shape)
        x = jnp.concatenate([items, query, items - query, items * query], -1)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.head(x)[..., 0]


class Interest(nnx.Module):
    """Weights of the items of histories, in place of those of a mean or sum.

    Attributes:
        units: of each history.
    """

    def __init__(self, config: Histories, *, rngs: nnx.Rngs):
        self.config = config
        width, hidden = config.width, config.attention_hidden
        self.units = nnx.List([ActivationUnit(width, hidden, rngs=rngs) for _ in config.histories])

    def __call__(self, values: Float[Array, "b s c"], weights: Float[Array, "b w"]) -> Float[Array, "b w"]:
        """The weights with those of histories replaced; items of weight 0 keep it.

        Args:
            values: rows of the table, whose first ``width`` values are the vectors: one of each field, then the lists.
            weights: of the items of lists, 0 for padding; scores of the items multiply them.
        """
        config, fields = self.config, self.config.fields
        vectors, weights = values[..., : config.width], jnp.asarray(weights)
        bounds = list(pairwise(accumulate(config.lists, initial=0)))
        for unit, (place, candidate) in zip(self.units, config.histories, strict=True):
            start, end = bounds[place]
            plain = weights[:, start:end]
            scores = unit(vectors[:, fields + start : fields + end], vectors[:, candidate])
            if config.history_pooling == "softmax":
                real = plain > 0
                # An empty history has no item to share among: all its weights stay 0.
                attended = jax.nn.softmax(jnp.where(real, scores.astype(jnp.float32), _NEVER)) * real
            else:
                attended = plain * (1 + scores)
            weights = weights.at[:, start:end].set(attended)
        return weights
