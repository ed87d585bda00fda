"""Retrieval: the items of a catalogue that a user may want, by vectors of users and of items.

Dims: b rows, k items of a row, u users, i items of training, n items of the catalogue, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.baselines.items import AttributeCosine, ItemCosine, Popularity
from suite.codecs.retrieval import BASES, RANKED, CatalogueItem, Retrieved
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.attributes import Attributes
from suite.data.preprocessing.columns import origin
from suite.data.preprocessing.interactions import Interactions
from suite.data.preprocessing.items import FIRST
from suite.data.sources.events import read_events
from suite.data.sources.histories import EVENTS, ITEMS, USER, Pairs
from suite.data.sources.memory import SPLITS, Memory, not_empty
from suite.errors import InputError
from suite.evaluation.contrast import unit
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.recommendation import Recommendation, Reference
from suite.models.lightgcn import Graph, LightGCN
from suite.parallel.layout import batch_rows, first_row, for_rows

Objective = Literal["softmax", "bpr"]
Negatives = Literal["batch", "all"]
CELLS = 1 << 28
"""Most pairs of a user and an item for which it is looked up on the device whether the user had the item."""


@dataclass(frozen=True, kw_only=True)
class Retrieval(Recommendation):
    """Two towers, of users and of items, learn vectors whose product says how well the two fit.

    The catalogue is the reference pass: the vectors of all items. An item that training had not has those of its
    attributes; a user that training had not, the mean of the vectors of the history.
    """

    pairs: Interactions = field(default_factory=Interactions)
    """Users, items and who had what, learnt from the training split."""
    item_attributes: Attributes = field(
        default_factory=lambda: Attributes(column="item", part="item", axis="item_attributes")
    )
    """A table of items."""
    user_attributes: Attributes = field(
        default_factory=lambda: Attributes(column="user", part="user", axis="user_attributes")
    )
    """A table of users."""
    objective: Objective = "softmax"
    """softmax: cross-entropy of a pair's item among others, by cosines. bpr: the pair's item before another that the
    user had not, by products (`Rendle et al., 2009 <https://arxiv.org/abs/1205.2618>`_)."""
    negatives: Negatives = "batch"
    """What stands for all items in the softmax. batch: the items of the batch, on all devices, each weighted by the
    inverse of how often it is drawn (`Yi et al., 2019 <https://doi.org/10.1145/3298689.3346996>`_). all: all items
    of training."""
    temperature: float = 0.15
    """What cosines are divided by."""
    drawn: int = 1
    """Items drawn for each pair of bpr, of which that of the highest score is compared (`Zhang et al., 2013
    <https://doi.org/10.1145/2484028.2484126>`_)."""
    l2: float = 0.0
    """Weight in the loss of the squared lengths of the vectors that a pair is compared by, of bpr."""
    whole: bool = False
    """A step makes the vectors of all users and items of training, and takes those of the batch from them: less work
    where a batch names most of them, or many attributes. LightGCN and negatives all do. It takes optim.tables dense."""

    profile: bool = False
    """The vector of a user is the sum of its own and of the mean of its items, those of training and of the request;
    in training without the item that is compared. It takes task.whole, and the softmax in the batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("objective", get_args(Objective)), ("negatives", get_args(Negatives))):
            if getattr(self, name) not in choices:
                raise InputError(f"field task.{name}", "no such choice", found=getattr(self, name), fix=choices[0])
        if self.drawn < 1 or self.l2 < 0:
            found = f"{self.drawn}, {self.l2:g}"
            raise InputError("fields task.drawn and .l2", "must be at least 1, and at least 0", found=found)
        if self.profile and not (self.whole and self.objective == "softmax" and self.negatives == "batch"):
            found = f"task.whole {self.whole}, task.objective {self.objective}, task.negatives {self.negatives}"
            fix = "--task.whole True --task.objective softmax --task.negatives batch --optim.tables dense"
            raise InputError(
                "field task.profile", "is of the softmax in the batch, and takes task.whole", found=found, fix=fix
            )
        if self.temperature <= 0:
            raise InputError("field task.temperature", "must be above 0", found=str(self.temperature))

    @property
    def codec(self) -> Retrieved:
        return Retrieved(
            history=self.history,
            items=self.items,
            max_length=self.max_length,
            max_seen=self.max_seen,
            user=self.user,
            pairs=self.pairs,
            user_attributes=replace(self.user_attributes, path="", data=None),  # what was learnt of it is in its file
        )

    @property
    def ranked_among(self) -> str:
        if self.split.by == "cold_items":
            return "the items that the split holds out whole"
        return f"all {len(self.items.names):,} items of the catalogue but those of the user's history"

    def source(self, split: str) -> Source:
        """Of the training split a record a pair, each once."""
        if split != "train":
            return super().source(split)
        events = read_events(self.data, self.user, self.item, self.time, self.split)
        pairs = Pairs(events, lambda: self.item_attributes.described(self.item))
        return not_empty(pairs, split, origin(self.data), "add events")

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = super().remarks(splits)
        new = int((self.items.counts == 0).sum())
        if new:
            lines.append(
                f"catalogue: {new:,} of {len(self.items.names):,} items are in no training event: attributes rank them"
            )
        if self.item_attributes.given:
            described = set(self.item_attributes.names)
            bare = sum(name not in described for name in self.items.names)
            if bare:
                lines.append(
                    f"catalogue: {bare:,} of {len(self.items.names):,} items have no record in the table of items"
                )
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Of a training pair ``user_ids`` int32 (b, 1) and ``item_ids`` int32 (b, k), the pair's item and, for bpr,
        one that the user had not; of a held-out record and a request what the codec says; and tokens of attributes,
        where there are some."""
        if EVENTS in columns:
            rows = self.pairs.user_rows(columns[USER])
            names = [row[0] for row in columns[EVENTS]]
            whole = self.whole or self.negatives == "all"
            encoded = {"user_ids": rows[:, None], **({} if whole else self._users(columns[USER]))}
            encoded |= {"item_ids": self.pairs.item_rows(names)[:, None]} if whole else self._items(names)
            if rng is not None and self.objective == "bpr" and "item_features" not in encoded:
                others = self.pairs.others(rows, self.drawn, rng)
                encoded["item_ids"] = np.concatenate([encoded["item_ids"], others], 1)
            return encoded
        if ITEMS in columns:
            columns = {**columns, self.user: columns[USER]}
        encoded = super().encode(columns, rng)
        if ITEMS in columns and self.split.by == "cold_items":
            encoded["part"] = self.split.parts([row[0] for row in columns[ITEMS]])
        return encoded

    def _users(self, names: Any) -> dict[str, Any]:
        if not self.user_attributes.columns:
            return {}
        features, weights = self.user_attributes.named(names)
        return {"user_features": features, "user_weights": weights}

    def _items(self, names: Any) -> dict[str, Any]:
        encoded: dict[str, Any] = {"item_ids": self.pairs.item_rows(names)[:, None]}
        if self.item_attributes.columns:
            features, weights = self.item_attributes.named(names)
            encoded |= {"item_features": features, "item_weights": weights}
        return encoded

    def reference(self, split: str) -> Source:
        """The catalogue; of items that were held out whole, those of the split are ranked among each other."""
        names = self.items.names
        ranked = np.ones(len(names), bool)
        if self.split.by == "cold_items" and split in SPLITS:
            ranked = self.split.parts(names) == SPLITS.index(split)
        return Memory({self.item: np.array(names), RANKED: ranked})

    @property
    def catalogue(self) -> CatalogueItem:
        attributes = replace(self.item_attributes, path="", data=None)  # what was learnt of it is in its file
        return CatalogueItem(item=self.item, items=self.items, pairs=self.pairs, attributes=attributes)

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"vector": self._scaled(_tower(model, "item", batch)[:, 0]), RANKED: batch[RANKED]}

    def item_vectors(self, model: Any, reference: Reference = None) -> jax.Array:
        assert reference is not None
        return jnp.pad(reference["vector"], ((FIRST, 0), (0, 0)))

    def candidates(self, reference: Reference = None) -> jax.Array | None:
        return None if reference is None else jnp.pad(reference[RANKED], (FIRST, 0))

    def vectors(self, model: Any, batch: Batch, reference: Reference = None) -> jax.Array:
        own = self._scaled(_tower(model, "user", batch)[:, 0])
        history, basis = self._history(batch, reference), self._basis(batch)
        # Where training did not add them, one's own vector says more than a mean of others'.
        alone = (basis == BASES.index("user")) & (not self.profile)
        users = jnp.where(alone[:, None], own, own + history)
        return self._scaled(users) / (self.temperature if self.objective == "softmax" else 1.0)

    def _history(self, batch: Batch, reference: Reference) -> jax.Array:
        """The mean (b, d) of the vectors of the items of the history; zeros where there are none."""
        table, name = self.item_vectors(None, reference), "seen" if self.profile else "items"
        real = (batch[name] >= FIRST) & batch[f"{name}_mask"]
        total = jnp.where(real[..., None], table.at[batch[name]].get(mode="clip"), 0).sum(1)
        return self._scaled(total / jnp.maximum(real.sum(-1), 1)[:, None])

    def _basis(self, batch: Batch) -> jax.Array:
        """What the user's vector rests on (b,), as a place in ``BASES``."""
        known = batch["user_ids"][:, 0] >= 0
        history = ((batch["items"] >= FIRST) & batch["items_mask"]).any(-1)
        described = batch["user_features_mask"].any(-1) if "user_features_mask" in batch else jnp.zeros_like(known)
        return jnp.where(known, BASES.index("user"), history + 2 * described)

    def predict(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        return {**super().predict(model, batch, reference), "basis": self._basis(batch)}

    def evaluate(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        return {**super().evaluate(model, batch, reference), "basis": self._basis(batch)}

    def _scaled(self, vectors: jax.Array) -> jax.Array:
        """Of length one, where cosines are compared."""
        return unit(vectors) if self.objective == "softmax" else vectors.astype(jnp.float32)

    @property
    def coupled(self) -> str:
        return "items of other records are negatives, or neighbours of its own"

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        tables = None
        if isinstance(model, LightGCN):
            tables = model.passed(_graph(self.pairs.file))
            if rngs is not None:
                model.keep(*tables)
        elif self.whole or self.negatives == "all":
            tables = self._whole(model, "user", rngs), self._whole(model, "item", rngs)
        users, items = (
            _tower(model, side, batch, rngs) if tables is None else tables[place][batch[f"{side}_ids"]]
            for place, side in enumerate(("user", "item"))
        )
        if self.objective == "bpr":
            losses, real = self._pairwise(users[:, 0], items, batch)
        elif self.negatives == "all":
            assert tables is not None
            losses, real = self._among_all(*tables, batch), batch["mask"]
        else:
            own = unit(users[:, 0])
            if self.profile and tables is not None:
                own = self._profiled(own, unit(tables[1]), batch, model.user.config.id_dropout, rngs)
            losses, real = self._among_batch(own, unit(items[:, 0]), batch), batch["mask"]
        return masked_mean(losses, real), {"loss": tally(losses, real)}

    def _pairwise(self, users: jax.Array, items: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Nats (b,) of the pair's item standing before the other, and which rows have one."""
        real, own = batch["mask"], (users * items[:, 0]).sum(-1)
        if items.shape[1] > 1:
            hardest = jnp.einsum("bd,bkd->bk", users, items[:, 1:]).argmax(-1)
            other = jnp.take_along_axis(items, 1 + hardest[:, None, None], 1)[:, 0]
        else:  # of attributes, which are made for the pairs of the batch alone, the item of the next pair
            every = batch_rows({"vector": items[:, 0], "item": batch["item_ids"][:, 0], "mask": real})
            place = (first_row(len(real)) + jnp.arange(len(real)) + 1) % len(every["mask"])
            item, other = every["item"][place], every["vector"][place]
            user = batch["user_ids"][:, 0]
            had = self._had(user, item[:, None])[:, 0] | (item == batch["item_ids"][:, 0])
            real &= every["mask"][place] & ~had
        lengths = sum(jnp.square(vectors).sum(-1) for vectors in (users, items[:, 0], other))
        return jax.nn.softplus((users * other).sum(-1) - own) + self.l2 * lengths, real

    def _profiled(
        self, own: jax.Array, items: jax.Array, batch: Batch, share: float, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Own vectors (b, d) of users, a share of them left out in training, and the mean of the user's other items.

        Args:
            own: unit vectors.
            items: unit vectors (i, d) of all items of training.
            batch: of pairs.
            share: of own vectors that are left out.
            rngs: given in training.
        """
        had = self.pairs.had
        total = jax.ops.segment_sum(items[had.rows], jnp.asarray(had.owners), len(had.users), indices_are_sorted=True)
        others = unit(total[batch["user_ids"][:, 0]] - items[batch["item_ids"][:, 0]])
        if rngs is not None and share:
            key = rngs.dropout()
            left = for_rows(lambda shape: jax.random.bernoulli(key, share, shape), own.shape[:1])
            own = jnp.where(left[:, None], 0, own)
        return unit(own + others)

    def _among_batch(self, users: jax.Array, items: jax.Array, batch: Batch) -> jax.Array:
        """Cross-entropy in nats (b,) of the pair's item among the items of all pairs of the batch, on all devices, but
        for others that the user had."""
        user, item = batch["user_ids"][:, 0], batch["item_ids"][:, 0]
        every = batch_rows({"vector": items, "user": user, "item": item, "mask": batch["mask"]})
        counts = self.pairs.had.counts
        drawn = jnp.asarray(np.log(counts / counts.sum()), jnp.float32)
        scores = users @ every["vector"].T / self.temperature - drawn[every["item"]]
        mine = (first_row(len(user)) + jnp.arange(len(user)))[:, None] == jnp.arange(len(every["mask"]))
        had = (user[:, None] == every["user"]) | (item[:, None] == every["item"])
        had |= self._had(user, jnp.broadcast_to(every["item"], (len(user), len(every["item"]))))
        scores = jnp.where(mine | (~had & every["mask"]), scores, -jnp.inf)
        return jax.nn.logsumexp(scores, -1) - jnp.where(mine, scores, 0).sum(-1)

    def _among_all(self, users: jax.Array, items: jax.Array, batch: Batch) -> jax.Array:
        """Cross-entropy in nats (b,) of the pair's item among all items of training, but for others that the user had.

        Args:
            users, items: vectors of all rows, (u, d) and (i, d).
            batch: of pairs.
        """
        users, items = unit(users), unit(items)
        user, item = batch["user_ids"][:, 0], batch["item_ids"][:, 0]
        own = (users[user] * items[item]).sum(-1) / self.temperature
        bits = _bits(self.pairs.file)
        if bits is None:
            problem = "is all, and there are too many pairs of a user and an item."
            had = self.pairs.had
            found = f"{len(had.users):,} users, {len(had.items):,} items"
            raise InputError("field task.negatives", problem, found=found, fix="--task.negatives batch")
        rows = jnp.arange(len(bits)) if len(bits) <= len(user) else user  # of few users, each once
        open_ = ~jnp.unpackbits(jnp.asarray(bits)[rows], axis=1).astype(bool)
        count = open_.shape[1]
        scores = jnp.where(open_, users[rows] @ items[:count].T / self.temperature, -jnp.inf)
        others = jax.nn.logsumexp(scores, -1)
        return jnp.logaddexp(others[user] if len(bits) <= len(user) else others, own) - own

    def _whole(self, model: Any, side: str, rngs: nnx.Rngs | None) -> jax.Array:
        """The vectors (u, d) or (i, d) of all users, or items, of training.

        Raises:
            InputError: a step is given the rows of its batch alone.
        """
        tower = getattr(model, side)
        own = tower.own.embedding[...]
        if own.ndim > 2:
            problem = "gives a step the rows of its batch alone, and task.whole and task.negatives all read every row."
            raise InputError("field optim.tables", problem, fix="--optim.tables dense")
        if tower.attributes is None:
            return own
        about = self.item_attributes if side == "item" else self.user_attributes
        return tower.whole(*_described(about.file, self.pairs.file, side), rngs=rngs)

    def _had(self, users: jax.Array, items: jax.Array) -> jax.Array:
        """Whether users (b,) had items (b, n) in training; False where there are too many to look up."""
        bits = _bits(self.pairs.file)
        if bits is None:
            return jnp.zeros(items.shape, bool)
        return (jnp.asarray(bits)[users[:, None], items >> 3] >> (7 - (items & 7)).astype(jnp.uint8)) & 1 == 1

    def baselines(self) -> Mapping[str, Baseline]:
        names, had = self.items.names, self.pairs.had
        features, weights = self.item_attributes.named(names)
        described: dict[str, Baseline] = {}
        if self.item_attributes.given:
            from scipy.sparse import csr_matrix

            starts = np.concatenate([[0], np.cumsum(features.lengths)])
            size = (len(names), self.item_attributes.sizes()["features"])
            rows: Any = csr_matrix((weights.values, features.values, starts), size)
            lengths = np.sqrt(np.maximum(np.asarray(rows.multiply(rows).sum(1)), 1e-12))
            parts = self.split.parts(names) if self.split.by == "cold_items" else None
            described = {"attribute cosine": AttributeCosine(len(names), rows.multiply(1 / lengths).tocsr(), parts)}
            if parts is not None:  # of items held out whole nothing else is known
                return described
        number = self.items.number(had.items) - FIRST
        histories = [number[row][number[row] >= 0] for row in np.split(had.rows, had.starts[1:-1])]
        return {
            "most popular": Popularity(len(names), histories),
            **described,
            "item cosine": ItemCosine(len(names), histories, decay=1.0),
        }


def _tower(model: Any, side: str, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
    """Vectors (b, k, d) of the users or items that a batch names: of LightGCN those that training left."""
    ids = batch[f"{side}_ids"]
    if isinstance(model, LightGCN):
        table = model.users[...] if side == "user" else model.items[...]
        return jnp.where((ids >= 0)[..., None], table.at[ids].get(mode="clip"), 0)
    read = (batch.get(f"{side}_{name}") for name in ("features", "weights", "features_mask"))
    return getattr(model, side)(ids, *read, rngs=rngs)


@lru_cache(maxsize=4)
def _described(attributes: str, pairs: str, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all users, or items, of training: rows (s,) of the tokens, their weights, and the row that each is of."""
    had = Interactions(file=pairs).had
    features, weights = Attributes(file=attributes).named(had.items if side == "item" else had.users)
    return features.values, weights.values, np.repeat(np.arange(len(features.lengths)), features.lengths)


@lru_cache(maxsize=2)
def _graph(file: str) -> Graph:
    had = Interactions(file=file).had
    return Graph(had.owners, had.rows)


@lru_cache(maxsize=2)
def _bits(file: str) -> np.ndarray | None:
    """Whether each user had each item, 8 items a byte; None where there are too many."""
    had = Interactions(file=file).had
    if len(had.users) * len(had.items) > CELLS:
        return None
    whole = np.zeros((len(had.users), -(-len(had.items) // 8) * 8), bool)
    whole[:, len(had.items) :] = True  # rows of no item
    whole[had.owners, had.rows] = True
    return np.packbits(whole, axis=1)
