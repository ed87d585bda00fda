"""Sequential recommendation: the item that a user takes next, by what the user took before, in its order."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState
from suite.data.preprocessing.items import FIRST
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives < 0:
            raise InputError("field task.negatives", "must be at least 0", found=str(self.negatives))

    def vectors(self, model: Any, batch: Batch, reference: Reference = None) -> jax.Array:
        hidden = model.hidden(batch["items"], batch["items_mask"])
        last = batch["items_mask"].sum(-1) - 1
        return jnp.take_along_axis(hidden, jnp.maximum(last, 0)[:, None, None], 1)[:, 0].astype(jnp.float32)

    def item_vectors(self, model: Any, reference: Reference = None) -> jax.Array:
        return model.output_table()

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        items, real = batch["items"], batch["items_mask"]
        hidden = model.hidden(items[:, :-1], real[:, :-1], rngs=rngs)
        hidden, targets = hidden.reshape(-1, hidden.shape[-1]), items[:, 1:].reshape(-1)
        weights = (real[:, 1:] & batch["mask"][:, None]).reshape(-1).astype(jnp.float32)
        losses = (
            self._sampled(model, hidden, targets, rngs) if self.negatives and rngs else _exact(model, hidden, targets)
        )
        total = MetricState((losses * weights).sum(), weights.sum())
        return total.total / jnp.maximum(total.count, 1), {"loss": total}

    def _sampled(self, model: Any, hidden: jax.Array, targets: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Cross-entropy in nats (m,) against negatives that all rows share. Each stands for the items that were not
        drawn, by the inverse of how often it is expected to be (`Bengio and Senecal, 2008
        <https://doi.org/10.1109/TNN.2007.912312>`_)."""
        shares = self.items.counts / self.items.counts.sum()
        drawn = jax.random.uniform(rngs.dropout(), (self.negatives,))
        negatives = FIRST + jnp.searchsorted(jnp.asarray(np.cumsum(shares)[:-1], jnp.float32), drawn)
        expected = jnp.asarray(np.concatenate([np.zeros(FIRST), np.log(shares * self.negatives)]), jnp.float32)
        table = model.output_table()
        own = (hidden * table[targets]).sum(-1)
        others = hidden @ table[negatives].T - expected[negatives]
        others = jnp.where(negatives[None] == targets[:, None], -jnp.inf, others)
        return jnp.logaddexp(jax.nn.logsumexp(others, -1), own) - own


def _exact(model: Any, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy in nats (m,) of ``targets`` (m,) among all items, by rows (m, d); where logits of all rows would be
    too many, some rows after others, whose logits the backward pass computes again."""
    table = model.output_table()

    def losses(rows: jax.Array, wanted: jax.Array) -> jax.Array:
        logits = model.logits(rows).astype(jnp.float32)
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
