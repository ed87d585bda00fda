"""LightGCN: vectors of users and items that are passed along the pairs of users and their items.

`He et al., 2020 <https://arxiv.org/abs/2002.02126>`_: what is compared is the mean of the vectors learnt, of those of
the neighbours, of those of theirs, and so on.

Dims: u users, i items, e pairs, d width.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from suite.errors import InputError
from suite.models import tower
from suite.models.checks import check_sizes
from suite.models.parts import Composite, Parts


class Passed(nnx.Variable):
    """What passing gave in the last step of training, by which requests are answered."""


@dataclass(frozen=True, kw_only=True)
class Config(Parts):
    """Two tables of vectors, and how far they are passed."""

    parts: Any = field(default_factory=lambda: {"user": tower.Config(), "item": tower.Config()})
    """The tables of users and of items."""
    layers: int = 3
    """Times that vectors are passed on."""

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, 1, "layers")

    def build(self, *, rngs: nnx.Rngs) -> "LightGCN":
        if set(self.parts) != {"user", "item"}:
            raise InputError("field model.parts", "must be user and item.", found=", ".join(self.parts))
        user, item = self.parts["user"], self.parts["item"]
        if user.width != item.width:
            widths = f"user {user.width}, item {item.width}"
            width: int = user.width
            fix = f"--model.parts.item.width {width:d}"
            raise InputError("field model.parts", "must be of one width.", found=widths, fix=fix)
        if user.features or item.features:
            problem = "passes own vectors alone, and there are attributes."
            raise InputError("field model", problem, fix="the recipe recommendation.retrieve, which reads them")
        return LightGCN(self, rngs=rngs)

    @property
    def tables(self) -> dict[str, str]:
        """None: each step reads all rows."""
        return {}


class LightGCN(Composite):
    """Towers of users and of items, and what passing made of their vectors.

    Attributes:
        user, item: the tables.
        users: (u, d) vectors passed, as the last step of training left them.
        items: (i, d) the same.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.layers = config.layers
        user, item = config.parts["user"], config.parts["item"]
        self.users = Passed(jnp.zeros((user.rows, user.width)))
        self.items = Passed(jnp.zeros((item.rows, item.width)))

    def passed(self, graph: "Graph") -> tuple[Float[Array, "u d"], Float[Array, "i d"]]:
        """Vectors of all users and items, the mean over 0 to ``layers`` times of passing on."""
        both = self.user.own.embedding[...], self.item.own.embedding[...]
        users, items = both
        for _ in range(self.layers):
            both = graph.passed(*both)
            users, items = users + both[0], items + both[1]
        return users / (self.layers + 1), items / (self.layers + 1)

    def keep(self, users: Float[Array, "u d"], items: Float[Array, "i d"]) -> None:
        """Requests are answered by these vectors."""
        self.users[...], self.items[...] = jax.lax.stop_gradient(users), jax.lax.stop_gradient(items)


class Graph:
    """Pairs of users and items, of which one passes its vector to the other, over the root of the pairs that both have.

    Args:
        users, items: rows (e,) of the pairs, ``users`` rising.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray):
        degrees = [np.maximum(np.bincount(rows), 1) for rows in (users, items)]
        weights = 1 / np.sqrt(degrees[0][users] * degrees[1][items])
        order = np.argsort(items, kind="stable")
        # Of both orders, so that sums run over rows that rise, forwards and backwards.
        self._by_user = (users, items, weights.astype(np.float32))
        self._by_item = (items[order], users[order], weights[order].astype(np.float32))

    def passed(
        self, users: Float[Array, "u d"], items: Float[Array, "i d"]
    ) -> tuple[Float[Array, "u d"], Float[Array, "i d"]]:
        """To each user the weighted sum of the items' vectors, and to each item that of the users'."""

        @jax.custom_vjp
        def passing(users: Array, items: Array) -> tuple[Array, Array]:
            return _sums(self._by_user, items, len(users)), _sums(self._by_item, users, len(items))

        # The adjacency is symmetric: gradients are passed as vectors are.
        passing.defvjp(lambda users, items: (passing(users, items), None), lambda _, both: passing(*both))
        return passing(users, items)


def _sums(edges: tuple[np.ndarray, np.ndarray, np.ndarray], vectors: Array, count: int) -> Array:
    to, of, weights = (jnp.asarray(values) for values in edges)
    return jax.ops.segment_sum(vectors[of] * weights[:, None], to, count, indices_are_sorted=True)
