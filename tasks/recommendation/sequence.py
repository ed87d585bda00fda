"""Sequential recommendation: the item that a user takes next, by what the user took before, in its order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.items import CatalogueItems
from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.item_tags import ItemTags
from suite.data.preprocessing.items import FIRST
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.recommendation import Recommendation, Reference

ROWS = 1 << 26
"""Logits that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class SequentialRecommendation(Recommendation):
    """A causal model says each item of a history from those before it: SASRec with a transformer (`Kang and McAuley,
    2018 <https://arxiv.org/abs/1808.09781>`_), GRU4Rec with a recurrent network.

    The loss is the cross-entropy over all items, by which SASRec surpasses its successors (`Klenitskiy and Vasilev,
    2023 <https://arxiv.org/abs/2309.07602>`_); of large catalogues over negatives that a batch shares.
    """

    negatives: int = 0
    """Items of each batch that stand for all others in the loss, drawn by their frequency. 0: all items."""
    tags: ItemTags | None = None
    """What is known of the items besides; the model then has the parts ``sequence`` and ``tags``."""
    refit: bool = False
    """Whether the events of validation are learnt from as well, for a last training whose settings are decided: what
    comes shortly before the test says much of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives < 0:
            raise InputError("field task.negatives", "must be at least 0", found=str(self.negatives))

    @property
    def trained_splits(self) -> int:
        return 2 if self.refit else 1

    @property
    def objective(self) -> str:
        among = f"{self.negatives:,} shared negatives" if self.negatives else "all items"
        return f"cross-entropy over {among}"

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        tags = self.tags.notes if self.tags and "train" in splits else []
        return [*super().remarks(splits), *tags]

    def vectors(self, model: Any, batch: Batch, reference: Reference = None) -> jax.Array:
        hidden = self._hidden(model, batch["items"], batch["items_mask"], self._tagged(model), None)
        last = batch["items_mask"].sum(-1) - 1
        return jnp.take_along_axis(hidden, jnp.maximum(last, 0)[:, None, None], 1)[:, 0].astype(jnp.float32)

    def item_vectors(self, model: Any, reference: Reference = None) -> jax.Array:
        if reference is not None:
            return jnp.pad(reference["vector"], ((FIRST, 0), (0, 0)))
        return self._table(model, self._tagged(model))

    @property
    def catalogue(self) -> CatalogueItems:
        tags = None if self.tags is None else replace(self.tags, data=None)  # type: ignore[arg-type]  # it is learnt
        return CatalogueItems(item=self.item, items=self.items, tags=tags)

    def reference(self, split: str) -> Source | None:
        """What requests are answered with; splits are scored by all items of training."""
        return Memory({self.item: np.array(self.items.names)}) if split == "predict" else None

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        number = batch["number"]
        if self.tags is None:
            return {"vector": model.output_table()[number].astype(jnp.float32)}
        rows, most = batch["item_tags"].shape
        real = batch["item_tags_mask"]
        weights = jnp.where(real, 1 / jnp.maximum(real.sum(-1, keepdims=True), 1), 0)
        places = jnp.broadcast_to(jnp.arange(rows)[:, None], (rows, most)).reshape(-1)
        tagged = model.tags(places, batch["item_tags"].reshape(-1), weights.reshape(-1), rows)
        own = jnp.where((number >= FIRST)[:, None], model.sequence.output_table()[number], 0)
        return {"vector": (own + tagged).astype(jnp.float32)}

    def _tagged(self, model: Any) -> jax.Array | None:
        """What the tags of each item add up to (`FIRST` + n, d); None where none are known."""
        if self.tags is None:
            return None
        items, tags, weights = self.tags.pairs(self.items.names)
        return model.tags(FIRST + items, tags, weights, FIRST + len(self.items.names))

    def _hidden(
        self, model: Any, items: jax.Array, real: jax.Array, tagged: jax.Array | None, rngs: nnx.Rngs | None
    ) -> jax.Array:
        if tagged is None:
            return model.hidden(items, real, rngs=rngs)
        return model.sequence.hidden(items, real, added=tagged[items], rngs=rngs)

    def _table(self, model: Any, tagged: jax.Array | None) -> jax.Array:
        return model.output_table() if tagged is None else model.sequence.output_table() + tagged

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        items, real = batch["items"], batch["items_mask"]
        tagged = self._tagged(model)
        table = self._table(model, tagged)
        hidden = self._hidden(model, items[:, :-1], real[:, :-1], tagged, rngs)
        hidden, targets = hidden.reshape(-1, hidden.shape[-1]), items[:, 1:].reshape(-1)
        weights = (real[:, 1:] & batch["mask"][:, None]).reshape(-1).astype(jnp.float32)
        if self.negatives and rngs:
            losses = self._sampled(table, hidden, targets, rngs)
        else:
            logits = model.logits if tagged is None else lambda rows: rows @ table.T
            losses = _exact(logits, table, hidden, targets)
        total = MetricState((losses * weights).sum(), weights.sum())
        return total.total / jnp.maximum(total.count, 1), {"loss": total}

    def _sampled(self, table: jax.Array, hidden: jax.Array, targets: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Cross-entropy in nats (m,) against negatives that all rows share. Each stands for the items that were not
        drawn, by the inverse of how often it is expected to be (`Bengio and Senecal, 2008
        <https://doi.org/10.1109/TNN.2007.912312>`_)."""
        shares = self.items.counts / self.items.counts.sum()
        drawn = jax.random.uniform(rngs.dropout(), (self.negatives,))
        negatives = FIRST + jnp.searchsorted(jnp.asarray(np.cumsum(shares)[:-1], jnp.float32), drawn)
        expected = jnp.asarray(np.concatenate([np.zeros(FIRST), np.log(shares * self.negatives)]), jnp.float32)
        own = (hidden * table[targets]).sum(-1)
        others = hidden @ table[negatives].T - expected[negatives]
        others = jnp.where(negatives[None] == targets[:, None], -jnp.inf, others)
        return jnp.logaddexp(jax.nn.logsumexp(others, -1), own) - own


def _exact(
    logits_of: Callable[[jax.Array], jax.Array], table: jax.Array, hidden: jax.Array, targets: jax.Array
) -> jax.Array:
    """Cross-entropy in nats (m,) of ``targets`` (m,) among all items, by rows (m, d); where logits of all rows would be
    too many, some rows after others, whose logits the backward pass computes again."""

    def losses(rows: jax.Array, wanted: jax.Array) -> jax.Array:
        logits = logits_of(rows).astype(jnp.float32)
        logits = jnp.where(jnp.arange(logits.shape[-1]) < FIRST, -jnp.inf, logits)
        # From the rows, since the gradient of a choice among the logits is as large as they are.
        own = (rows * table[jnp.maximum(wanted, FIRST)]).sum(-1)
        return jax.nn.logsumexp(logits, -1) - own

    parts = -(-hidden.shape[0] * table.shape[0] // ROWS)
    if parts <= 1:
        return losses(hidden, targets)
    size = -(-hidden.shape[0] // parts)
    short = parts * size - hidden.shape[0]
    rows = jnp.pad(hidden, ((0, short), (0, 0))).reshape(parts, size, -1)
    wanted = jnp.pad(targets, (0, short)).reshape(parts, size)
    return jax.lax.map(lambda part: jax.checkpoint(losses)(*part), (rows, wanted)).reshape(-1)[: hidden.shape[0]]
