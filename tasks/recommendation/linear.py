"""Linear recommendation: weights between items in closed form, from who had what, without training."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.items import CatalogueItems, NextItems
from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.items import FIRST
from suite.data.sources.events import read_events
from suite.data.sources.histories import EVENTS, Histories
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.metrics.recommendation import PLACES
from suite.evaluation.recommendation import Recommendation, Reference, best_scored, hits, padded, seen_items
from suite.models.item_weights import DENSE
from suite.tasks.recommendation.item_solutions import BLOCK, ease, filter_blocks, gigabytes, largest


@dataclass(frozen=True, kw_only=True)
class LinearRecommendation(Recommendation):
    """The score of an item is the sum of its weights to the items that the user had. EASE finds the weights of the
    least squared error, the filter those of the normalised matrix of users and items.

    On small and on sparse sets both are as good as or better than learnt models (`Ferrari Dacrema et al., 2019
    <https://arxiv.org/abs/1907.06902>`_), in seconds. The order of a history does not count, nor how often an item
    occurs in it.
    """

    method: Literal["ease", "filter"] = "ease"
    """ease: least squares, for up to 20,000 items. filter: the product of the normalised matrix with itself, for
    catalogues of any size with model.neighbours."""
    strength: float = 300.0
    """Penalty of ease on its weights; the more, the more users each weight rests on."""
    user_power: float = 0.5
    """Of filter: each user's items count by the number of them to minus this power. 0: all users count alike."""
    history_power: float = 0.5
    """Of filter: each item of a history counts by the number of its users to minus this power."""
    candidate_power: float = 0.5
    """Of filter: each item that is ranked counts by the number of its users to minus this power. The less, the more is
    recommended what is popular."""
    refit: bool = False
    """Whether the weights are computed once more with the events of validation, after it is measured, as published
    results have them that know no validation split."""
    max_length: int = 1024
    """Items of a history that are read, the latest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strength > 0:
            raise InputError("field task.strength", "must be more than 0", found=f"{self.strength:g}")
        for name in ("user_power", "history_power", "candidate_power"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"field task.{name}", "must be from 0 to 1", found=f"{getattr(self, name):g}")

    @property
    def codec(self) -> NextItems:
        return NextItems(
            history=self.history, items=self.items, max_length=self.max_length, max_seen=self.max_seen, distinct=True
        )

    @property
    def stretch(self) -> int:
        return 0

    @property
    def objective(self) -> str:
        if self.method == "filter":
            items = f"{self.history_power:g} of items had and {self.candidate_power:g} of items ranked"
            powers = f"powers {self.user_power:g} of users, {items}"
            return f"none, the weights are those of the normalised item-item filter, {powers}"
        return f"squared error with penalty {self.strength:g}, in closed form"

    @property
    def learnt(self) -> tuple[str, ...]:
        return self.solved

    @property
    def solved(self) -> tuple[str, ...]:
        return ("train", "validation") if self.refit else ("train",)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        count = len(self.items.names)
        if self.method == "ease" and count > DENSE:
            raise InputError(
                "field task.method",
                f"is ease, which would take {gigabytes(count):.1f} GB for so many items.",
                found=f"{count:,} items, more than {DENSE:,}",
                fix="--task.method filter --model.neighbours 500",
            )
        lines = super().remarks(splits)
        if "train" in splits:
            source = splits["train"]
            rows = source.column(EVENTS, np.arange(len(source)))
            if long := sum(len(set(row)) > self.max_length for row in rows):
                most = f"more than {self.max_length:,} items, of which the latest alone are read (task.max_length)"
                lines.append(f"train: {long:,} users had {most}")
        return lines

    def solved_records(self) -> Source:
        events = read_events(self.data, self.user, self.item, self.time, self.split)
        return Histories(events, "train", self.history, parts=len(self.solved))

    def solve(self, model: Any, batches: Callable[[], Iterator[Batch]]) -> Mapping[str, Any]:
        from scipy.sparse import csr_matrix

        users, items, count = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        for batch in batches():
            row, place = np.nonzero(batch["items_mask"] & (batch["items"] >= FIRST) & batch["mask"][:, None])
            users.append(count + row)
            items.append(batch["items"][row, place].astype(np.int64) - FIRST)
            count += len(batch["mask"])
        user, item = np.concatenate(users), np.concatenate(items)
        size = len(self.items.names)
        had = csr_matrix((np.ones(len(user), np.float32), (user, item)), (count, size))
        if not hasattr(model, "neighbours"):
            weights = np.zeros((FIRST + size, FIRST + size), np.float32)
            for start, rows in self._blocks(had):
                values = rows if isinstance(rows, np.ndarray) else rows.toarray()
                weights[FIRST + start : FIRST + start + len(values), FIRST:] = values
            np.fill_diagonal(weights, 0)
            return {"weights": weights}
        most = min(model.neighbours.shape[1], size)
        weights = np.zeros(model.weights.shape, np.float32)
        neighbours = np.zeros(model.neighbours.shape, np.int32)
        for start, rows in self._blocks(had):
            numbers, values = largest(start, rows, most)
            block = slice(FIRST + start, FIRST + start + len(values))
            weights[block, :most] = values
            neighbours[block, :most] = np.where(values != 0, FIRST + numbers, 0)
        return {"weights": weights, "neighbours": neighbours}

    def _blocks(self, had: Any) -> Iterator[tuple[int, Any]]:
        """The weights of `BLOCK` items at a time, with the number of the first of them."""
        if self.method == "filter":
            yield from filter_blocks(had, self.user_power, self.history_power, self.candidate_power)
            return
        weights = ease(had, self.strength)
        for start in range(0, len(weights), BLOCK):
            yield start, weights[start : start + BLOCK]

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        raise InputError(f"task {type(self).__name__}", "is solved in closed form, and has no loss to train by.")

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        items, scores = self._best(model, batch, self.top, reference)
        return {"top": items, "score": scores, "unseen": batch["unseen"]}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        items, scores = self._best(model, batch, PLACES[-1])
        return {"top": items, "score": scores, "unseen": batch["unseen"], "hits": hits(items, batch)}

    @property
    def catalogue(self) -> CatalogueItems:
        return CatalogueItems(item=self.item, items=self.items)

    def reference(self, split: str) -> Source | None:
        """What requests are answered with; splits are scored by all items of training."""
        return Memory({self.item: np.array(self.items.names)}) if split == "predict" else None

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"number": batch["number"]}

    def _best(self, model: Any, batch: Batch, places: int, reference: Reference = None) -> tuple[jax.Array, jax.Array]:
        scores = model(batch["items"], batch["items_mask"])
        if reference is None:
            places = min(places, scores.shape[1] - FIRST)
        else:  # a catalogue may have fewer items than an answer has places
            beside = ((0, 0), (FIRST, places))
            scores = jnp.pad(scores[:, reference["number"]], beside, constant_values=-jnp.inf)
        return padded(*best_scored(scores, seen_items(batch), places))
