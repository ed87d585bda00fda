"""Recommendation: the items of a catalogue ranked for a user, all of them, by the user's history.

Dims: b users, t items of a history, n items, d width, k places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from suite.baselines.items import ItemCosine, Popularity
from suite.codecs.items import NextItems, ragged
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin
from suite.data.preprocessing.items import FIRST, Items
from suite.data.sources.events import EventSplit, read_events
from suite.data.sources.histories import EVENTS, ITEMS, Histories
from suite.data.sources.memory import SPLITS, not_empty
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Spread
from suite.evaluation.metrics.recommendation import PLACES, recommendation_scores
from suite.evaluation.popularity import recall_by_popularity

TARGETS = "targets"
"""Axis of held-out items."""
Reference = Mapping[str, jax.Array] | None
BLOCK, SMALL_BLOCK = 1 << 16, 1 << 13
"""Items that are scored at a time: the memory of a ranking does not grow with the catalogue. The second where a program
takes a catalogue of any number of items."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recommendation(Task):
    """Events, each of a user and an item, are parted into what is learnt from and what is held out of each user; all
    items but those of the user's history are ranked, and the held-out ones looked for."""

    data: Data
    """Where the events come from, a record each."""
    user: str = "user"
    """Name of the column of users."""
    item: str = "item"
    """Name of the column of items."""
    time: str = ""
    """Name of the column of times, numbers or dates. Empty: events are in the order of time."""
    split: EventSplit = field(default_factory=EventSplit)
    """Which events are held out."""
    history: str = "history"
    """Name of the list of a user's items in a request."""
    items: Items = field(default_factory=Items)
    """What can be recommended, learnt from the training split."""
    max_length: int = 50
    """Items of a history that are read, the latest."""
    max_seen: int = 1024
    """Items of a history that are not recommended again, the latest."""
    top: int = 10
    """Items that an answer names."""

    events: ClassVar[str] = EVENTS

    def __post_init__(self) -> None:
        for name in ("max_length", "max_seen", "top"):
            if getattr(self, name) < 1:
                raise InputError(f"field task.{name}", "must be at least 1", found=str(getattr(self, name)))

    @property
    def codec(self) -> NextItems:
        return NextItems(history=self.history, items=self.items, max_length=self.max_length, max_seen=self.max_seen)

    @property
    def stretch(self) -> int:
        """Most items of a training record; a longer history makes several. 0: a record is a whole history."""
        return self.max_length

    def source(self, split: str) -> Source:
        events = read_events(self.data, self.user, self.item, self.time, self.split)
        fix = "add events, or --task.split.by random"
        histories = Histories(events, split, self.history, self.stretch, self.trained_splits)
        return not_empty(histories, split, origin(self.data), fix)

    @property
    def trained_splits(self) -> int:
        """Splits whose events training records are made of: 1, or 2 with those of validation."""
        return 1

    @property
    def learnt(self) -> tuple[str, ...]:
        """Splits whose events are learnt from."""
        return SPLITS[: self.trained_splits]

    @property
    def objective(self) -> str:
        """What training minimises, in words; empty where nothing is trained."""
        return ""

    @property
    def ranked_among(self) -> str:
        """The items that are ranked, in words."""
        return f"all {len(self.items.names):,} items of the training split but those of the user's history"

    @property
    def protocol(self) -> str:
        """The loss, the candidates, the split and the places: figures of other protocols are not to be compared."""
        places = ", ".join(map(str, PLACES))
        parts = [
            f"loss: {self.objective}" if self.objective else "",
            f"candidates: {self.ranked_among}",
            f"split: {self.items.split or self.split.by}",
            f"learnt from: {' and '.join(self.learnt)}",
            f"k: {places}",
        ]
        return "; ".join(part for part in parts if part)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = []
        for split, source in splits.items():
            assert isinstance(source, Histories)
            if split == "train":
                lines.append(f"train: {source.about}")
                continue
            every = np.arange(len(source))
            wanted = source.column(ITEMS, every)
            unknown = int(self.items.numbers(wanted)[1].sum())
            line = f"{split}: {sum(map(len, wanted)):,} held-out items of {len(source):,} users"
            lines.append(
                f"{line}, {unknown:,} of them unknown to training, which no ranking finds" if unknown else line
            )
            if long := sum(len(row) > self.max_seen for row in source.column(self.history, every)):
                most = f"more than {self.max_seen:,} items, of which the latest alone are not ranked (task.max_seen)"
                lines.append(f"{split}: {long:,} users had {most}")
            if split in SPLITS[: self.trained_splits]:
                lines.append(f"{split}: its events are learnt from (task.refit), so that its figures say nothing")
        return [*lines, f"protocol: {self.protocol}"]

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``items`` int32 Ragged, the beginning and what follows. Of a held-out record and of a request also ``seen``
        int32 Ragged and ``unseen`` int32 (b,); of a held-out one ``targets`` int32 Ragged, those of the held-out items
        that are known, and ``wanted`` int32 (b,), how many there are."""
        if EVENTS in columns:
            return {"items": self.codec.encode({self.history: columns[EVENTS]})["items"]}
        encoded = self.codec.encode(columns)
        if ITEMS in columns:
            known, unknown = self.items.numbers(columns[ITEMS])
            encoded["targets"] = ragged(known, TARGETS)
            encoded["wanted"] = unknown + np.array([len(row) for row in known], np.int32)
        return encoded

    def vectors(self, model: Any, batch: Batch, reference: Reference = None) -> jax.Array:
        """What stands for each user (b, d), of models that score so. Jitted."""
        raise NotImplementedError(f"{type(self).__name__} has neither vectors nor predict and evaluate without them")

    def item_vectors(self, model: Any, reference: Reference = None) -> jax.Array:
        """The vectors (`FIRST` + n, d) whose products with a user's are the scores. Jitted."""
        raise NotImplementedError(f"{type(self).__name__} has neither vectors nor predict and evaluate without them")

    def candidates(self, reference: Reference = None) -> jax.Array | None:
        """Which numbers (`FIRST` + n,) are ranked; None: all items. Jitted."""
        return None

    def ranked(
        self, model: Any, batch: Batch, places: int, reference: Reference = None
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The first ``places`` items by number, padding where there are fewer, and their scores, (b, k) both; the
        users' vectors (b, d) and those of the items. Jitted."""
        users, table = self.vectors(model, batch, reference), self.item_vectors(model, reference)
        if not is_symbolic_dim(table.shape[0]):
            places = min(places, table.shape[0] - FIRST)
        items, scores = best_items(users, table, seen_items(batch), places, self.candidates(reference))
        return *padded(items, scores), users, table

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        items, scores, _, _ = self.ranked(model, batch, self.top, reference)
        short = self.top - items.shape[1]  # an answer has as many places, whatever the catalogue
        items, scores = (jnp.pad(values, ((0, 0), (0, short))) for values in (items, scores))
        return {"top": items, "score": scores, "unseen": batch["unseen"]}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        items, scores, users, table = self.ranked(model, batch, PLACES[-1], reference)
        nats = target_losses(users, table, batch["targets"], self.candidates(reference))
        count = batch["targets_mask"].sum(-1)
        mean = jnp.where(batch["targets_mask"], nats, 0).sum(-1) / jnp.maximum(count, 1)
        outputs = {"top": items, "score": scores, "unseen": batch["unseen"], "hits": hits(items, batch)}
        return {**outputs, "nats": mean, "known": count}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """Recall, NDCG, HR and MRR at 5, 10, 20 and 50; ``coverage_10``; and ``loss``, of models that have one."""
        mask = np.asarray(batch["mask"])
        scores = recommendation_scores(np.asarray(outputs["hits"])[mask], np.asarray(batch["wanted"])[mask])
        shown = np.asarray(outputs["top"])[mask][:, :10]
        numbers = np.bincount(shown[shown >= FIRST] - FIRST, minlength=len(self.items.names))
        scores["coverage_10"] = Coverage(numbers, int(mask.sum()))
        if "nats" in outputs:
            known = mask & (np.asarray(outputs["known"]) > 0)
            scores["loss"] = MetricState(float(np.asarray(outputs["nats"], np.float64)[known].sum()), int(known.sum()))
        return scores

    def baselines(self) -> Mapping[str, Baseline]:
        count = len(self.items.names)
        return {"most popular": Popularity(count), "item cosine, recent items first": ItemCosine(count)}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        names, counts = self.items.names, self.items.counts
        top, found = np.asarray(outputs["top"]), np.asarray(outputs["hits"])
        unlikely = np.asarray(outputs["nats"] if "nats" in outputs else batch["wanted"], np.float64)
        known = [
            np.asarray(row)[np.asarray(real)] - FIRST
            for row, real in zip(batch["targets"], batch["targets_mask"], strict=True)
        ]
        unknown = int(np.asarray(batch["wanted"]).sum()) - sum(map(len, known))
        listed = lambda row: ", ".join(names[number - FIRST] for number in row[:5].tolist() if number >= FIRST)

        def show(place: int) -> Example:
            history = columns[self.history][place]
            given = {"user": str(columns["user"][place]), "latest items": ", ".join(history[-5:])}
            wanted = ", ".join(map(str, columns[ITEMS][place][:5]))
            return Example(given, wanted, listed(top[place]), float(unlikely[place]))

        lost = np.where(found.any(-1), np.nan, unlikely)
        first = top[:, :10]
        wanted = np.concatenate([counts[row] for row in known]) if known else np.zeros(0)
        popularity = {"held out": wanted, "recommended": counts[first[first >= FIRST] - FIRST]}
        order = "how unlikely theirs were" if "nats" in outputs else "how many they have"
        about = f"Users of whom no held-out item is among the first {PLACES[-1]}, by {order}."
        return {
            "Users ranked worst": Gallery.worst(about, lost, show),
            "Are rare items found?": recall_by_popularity(counts, known, top - FIRST, unknown),
            "How popular is what is recommended?": Spread("training events of the item", popularity),
        }


@dataclass(frozen=True)
class Coverage(MetricState):
    """Share of the catalogue that is recommended to anyone.

    Attributes:
        total: (n,) how often each item is.
        count: users.
    """

    by_record: ClassVar[bool] = False

    def __add__(self, other: MetricState) -> "Coverage":
        return Coverage(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        return float((np.asarray(self.total) > 0).mean())


def best_items(
    users: jax.Array, table: jax.Array, seen: jax.Array, places: int, ranked: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Numbers and scores (b, k) of the items of the highest scores, falling. Jitted.

    Of equal scores the lower number comes first, which is the more frequent item.

    Args:
        users: vectors (b, d).
        table: vectors (`FIRST` + n, d) of the items.
        seen: numbers (b, t) that are left out; 0 for none.
        places: k, n at most.
        ranked: which numbers (`FIRST` + n,) are; None: all.
    """
    users, allowed = users.astype(jnp.float32), _items(table, ranked)
    if _is_small(table):
        return best_scored(_scores(users, table, allowed), seen, places)

    def step(
        best: tuple[jax.Array, jax.Array], rows: jax.Array, start: jax.Array, allowed: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scores = _without(_scores(users, rows, allowed), seen, start)
        block_scores, block_items = jax.lax.top_k(scores, places)
        # What came before has lower numbers, and stands first: equal scores keep their order.
        merged = jnp.concatenate([best[0], block_scores], 1), jnp.concatenate([best[1], start + block_items], 1)
        kept, chosen = jax.lax.top_k(merged[0], places)
        return kept, jnp.take_along_axis(merged[1], chosen, 1)

    none = jnp.full((users.shape[0], places), -jnp.inf), jnp.zeros((users.shape[0], places), jnp.int32)
    best, items = _by_blocks(table, allowed, step, none, places)
    return items, best


def best_scored(scores: jax.Array, seen: jax.Array, places: int) -> tuple[jax.Array, jax.Array]:
    """The same of the scores (b, `FIRST` + n) themselves; those of what is no item are not read. Jitted."""
    numbers = jnp.arange(scores.shape[1])
    best, items = jax.lax.top_k(_without(jnp.where(numbers < FIRST, -jnp.inf, scores), seen, 0), places)
    return items, best


def padded(items: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Items and scores, 0 both where there was no item left to rank. Jitted."""
    known = jnp.isfinite(scores)
    return jnp.where(known, items, 0), jnp.where(known, scores, 0)


def seen_items(batch: Batch) -> jax.Array:
    """Numbers (b, t) of the items that are not recommended again, 0 for none. Jitted."""
    return jnp.where(batch["seen_mask"], batch["seen"], 0)


def hits(items: jax.Array, batch: Batch) -> jax.Array:
    """Which of the recommended items (b, k) are held-out ones. Jitted."""
    return ((items[:, :, None] == batch["targets"][:, None, :]) & batch["targets_mask"][:, None, :]).any(-1)


def target_losses(users: jax.Array, table: jax.Array, targets: jax.Array, ranked: jax.Array | None = None) -> jax.Array:
    """How unlikely each of ``targets`` (b, m) is among all items, in nats. Jitted; items are scored in blocks.

    It is the softmax of the products of ``users`` (b, d) with ``table`` (`FIRST` + n, d); ``ranked`` as in
    `best_items`.
    """
    users, allowed = users.astype(jnp.float32), _items(table, ranked)
    wanted = jnp.einsum("bd,bmd->bm", users, table.at[targets].get(mode="clip").astype(jnp.float32))
    if _is_small(table):  # the scores are those of the ranking, which the compiler takes from there
        return jax.nn.logsumexp(_scores(users, table, allowed), -1)[:, None] - wanted

    def step(total: jax.Array, rows: jax.Array, start: jax.Array, allowed: jax.Array) -> jax.Array:
        return jnp.logaddexp(total, jax.nn.logsumexp(_scores(users, rows, allowed), -1))

    total = _by_blocks(table, allowed, step, jnp.full((users.shape[0],), -jnp.inf))
    return total[:, None] - wanted


def _items(table: jax.Array, ranked: jax.Array | None) -> jax.Array:
    """Which rows (`FIRST` + n,) of a table are items, of those that are ``ranked``."""
    items = jnp.arange(table.shape[0]) >= FIRST
    return items if ranked is None else items & ranked


def _is_small(table: jax.Array) -> bool:
    """Whether all items are scored at once. Not where a program takes any number of them."""
    return not is_symbolic_dim(table.shape[0]) and table.shape[0] <= BLOCK


def _by_blocks(table: jax.Array, allowed: jax.Array, step: Callable[..., T], first: T, least: int = 1) -> T:
    """What ``step(carry, rows, start, allowed)`` makes of all blocks of a table, from ``first`` on.

    Blocks are of one size. The last one begins early enough to be whole, and what the one before had of it is not
    allowed: the table is not copied. Of a program for any number of items blocks are smaller, since one at least is
    computed, and a table of fewer rows is filled up.

    Args:
        table: rows (n, d).
        allowed: which rows (n,) are ranked.
        step: given rows (m, d), the number of the first one, and which of them (m,) are ranked.
        first: the carry before the first block.
        least: rows of a block at least.
    """
    size = max(SMALL_BLOCK, least) if is_symbolic_dim(table.shape[0]) else BLOCK
    short = jax.core.max_dim(size - table.shape[0], 0) if is_symbolic_dim(table.shape[0]) else 0
    rows, known = jnp.pad(table, ((0, short), (0, 0))), jnp.pad(allowed, (0, short))

    def block(place: jax.Array, carry: T) -> T:
        start = place * size
        begin = jnp.minimum(start, rows.shape[0] - size)
        part = jax.lax.dynamic_slice_in_dim(known, begin, size) & (begin + jnp.arange(size) >= start)
        return step(carry, jax.lax.dynamic_slice_in_dim(rows, begin, size), begin, part)

    return jax.lax.fori_loop(0, jnp.asarray(-(-rows.shape[0] // size), jnp.int32), block, first)


def _scores(users: jax.Array, rows: jax.Array, allowed: jax.Array) -> jax.Array:
    """Scores (b, n) of rows; -inf of those that are not ``allowed`` (n,)."""
    return jnp.where(allowed, users @ rows.T.astype(jnp.float32), -jnp.inf)


def _without(scores: jax.Array, seen: jax.Array, start: jax.Array | int) -> jax.Array:
    """Scores (b, n) of the numbers from ``start`` on, those of ``seen`` (b, t) at -inf."""
    rows = jnp.arange(scores.shape[0])[:, None]
    places = jnp.where(seen >= start, seen - start, scores.shape[1])
    return scores.at[rows, places].set(-jnp.inf, mode="drop")


register_metric(
    "coverage_10",
    "Share of the catalogue that is among the first 10 of any user of the split. A model that recommends the same few "
    "items to everyone has little of it.",
    "higher",
    title="Coverage@10",
    share=True,
)
