"""Losses and ranks of embeddings (jitted): a record's own partner against all others. Dims: b rows, n candidates, d."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from suite.contracts.batch import Batch
from suite.parallel.layout import batch_rows, first_row


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors (b, d) in float32 of length one; a vector of zeros stays one, with gradients that are finite."""
    vectors = vectors.astype(jnp.float32)
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.square(vectors).sum(-1, keepdims=True), 1e-12))


def in_batch_losses(own: jax.Array, other: jax.Array, batch: Batch, temperature: float) -> jax.Array:
    """Cross-entropy in nats (b,) of finding the partner among the partners of all rows of the batch, on all devices;
    the mean of both directions.

    Multiple negatives ranking (`Henderson et al., 2017 <https://arxiv.org/abs/1705.00652>`_); where rows have labels,
    all of a row's label are right (supervised contrast, `Khosla et al., 2020 <https://arxiv.org/abs/2004.11362>`_).
    What is equal to a row or to its partner is neither right nor wrong.

    Args:
        own, other: unit vectors (b, d) of both sides.
        batch: ``content`` and ``other_content`` (b, 2), keys of what both sides are; ``group`` (b, 2), where there is
            one, of labels; ``mask`` (b,).
        temperature: what cosines are divided by.
    """
    shared: dict[str, jax.Array] = {name: batch[name] for name in ("group", "mask") if name in batch}
    first: dict[str, jax.Array] = {"vector": own, "content": batch["content"], **shared}
    second: dict[str, jax.Array] = {"vector": other, "content": batch["other_content"], **shared}
    return (_one_way(first, second, temperature) + _one_way(second, first, temperature)) / 2


def _one_way(rows: dict[str, jax.Array], partners: dict[str, jax.Array], temperature: float) -> jax.Array:
    every = batch_rows({**partners, "row": rows["content"]})
    count = len(rows["mask"])
    mine = (first_row(count) + jnp.arange(count))[:, None] == jnp.arange(len(every["mask"]))
    itself = same(rows["content"], every["content"])
    unsure = itself | same(partners["content"], every["content"]) | same(rows["content"], every["row"])
    right = mine | (same(rows["group"], every["group"]) & ~itself) if "group" in rows else mine
    right &= every["mask"] | mine
    counted = right | (~unsure & every["mask"])
    scores = rows["vector"] @ every["vector"].T / temperature
    return _losses(scores, right, counted)


def _losses(scores: jax.Array, right: jax.Array, counted: jax.Array) -> jax.Array:
    """Nats (b,): how unlikely what is right is among what is counted, on average over what is right."""
    total = jax.nn.logsumexp(jnp.where(counted, scores, -jnp.inf), axis=-1)
    return total - jnp.where(right, scores, 0).sum(-1) / jnp.maximum(right.sum(-1), 1)


def two_view_losses(first: jax.Array, second: jax.Array, batch: Batch, temperature: float) -> jax.Array:
    """Cross-entropy in nats (b,) of finding a record's other view among all views of all other records of the batch, on
    all devices; the mean of both views.

    Normalised temperature-scaled cross-entropy (NT-Xent, `Chen et al., 2020 <https://arxiv.org/abs/2002.05709>`_).
    Records that are equal before any augmentation are never told from each other.

    Args:
        first, second: unit vectors (b, d) of both views of each record.
        batch: ``content`` (b, 2), keys of what the records are; ``mask`` (b,).
        temperature: what cosines are divided by.
    """
    every = batch_rows({"first": first, "second": second, "content": batch["content"], "mask": batch["mask"]})
    count = len(batch["mask"])
    mine = (first_row(count) + jnp.arange(count))[:, None] == jnp.arange(len(every["mask"]))
    others = every["mask"] & ~mine & ~same(batch["content"], every["content"])

    def one_way(view: jax.Array, alike: jax.Array, partners: jax.Array) -> jax.Array:
        scores = jnp.concatenate([view @ partners.T, view @ alike.T], 1) / temperature
        right = jnp.concatenate([mine, jnp.zeros_like(mine)], 1)
        return _losses(scores, right, right | jnp.concatenate([others, others], 1))

    there = one_way(first, every["first"], every["second"])
    return (there + one_way(second, every["second"], every["first"])) / 2


def same(keys: jax.Array, others: jax.Array) -> jax.Array:
    """Whether keys (b, 2) are those of others (n, 2): (b, n)."""
    return (keys[:, None] == others[None]).all(-1)


def ranked(
    vectors: jax.Array, batch: Batch, reference: Mapping[str, jax.Array], temperature: float
) -> dict[str, jax.Array]:
    """How each row finds its partner among all candidates.

    What equals the row itself is no candidate, unless its own partner does. Of candidates of the same cosine the right
    one counts as the last, so that vectors that are all equal find nothing.

    Args:
        vectors: unit vectors (b, d).
        batch: ``content`` (b, 2), ``seed`` (b,) the place of each row's partner among the candidates, and perhaps
            ``group`` (b, 2).
        reference: of the candidates, ``vector`` (n, d), ``content`` and perhaps ``group`` (n, 2).
        temperature: what cosines are divided by in the loss.

    Returns:
        ``rank`` (b,) int32 from 1; ``loss`` (b,) in nats; ``right`` and ``wrong`` (b,), the largest cosines of each.
    """
    cosines = vectors @ reference["vector"].T
    partner = reference["content"][jnp.minimum(batch["seed"], len(reference["content"]) - 1)]
    right = same(partner, reference["content"])
    if "group" in batch:
        right |= same(batch["group"], reference["group"])
    itself = same(batch["content"], reference["content"])
    right = jnp.where((right & ~itself).any(-1, keepdims=True), right & ~itself, right)
    wrong = ~right & ~itself
    best = jnp.where(right, cosines, -jnp.inf).max(-1)
    return {
        "rank": 1 + (wrong & (cosines >= best[:, None])).sum(-1, dtype=jnp.int32),
        "loss": _losses(cosines / temperature, right, right | wrong),
        "right": best,
        "wrong": jnp.where(wrong, cosines, -1.0).max(-1),
    }
