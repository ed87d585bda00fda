"""Losses (jitted) that several tasks share, and their tallies."""

import jax
import jax.numpy as jnp
import numpy as np

import suite.evaluation.metric_pytree  # noqa: F401 (losses return metric states from jitted functions)
from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState
from suite.nn.picking import value_at


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``values`` (b,) over rows where ``mask`` (b,) is True; 0 over none."""
    weights = mask.astype(jnp.float32)
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1.0)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy in nats (b,) of ``logits`` (b, c) against integer ``labels`` (b,), label smoothing as in
    arXiv 1512.00567: ``smoothing`` of the target is spread evenly over all classes."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = value_at(log_probs, labels)
    return -(1 - smoothing) * picked - smoothing * log_probs.mean(-1) if smoothing else -picked


def distillation_loss(ours: jax.Array, theirs: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Kullback-Leibler divergence in nats (...) of the classes that ``ours`` (..., c) makes likely from those of
    ``theirs``, both logits or log probabilities divided by ``temperature``: 0 where they agree."""
    mine, yours = (jax.nn.log_softmax(logits.astype(jnp.float32) / temperature) for logits in (ours, theirs))
    return (jnp.exp(yours) * (yours - mine)).sum(-1)


def binary_distillation_loss(ours: jax.Array, theirs: jax.Array, temperature: float = 1.0) -> jax.Array:
    """As `distillation_loss`, of log odds (...)."""
    mine, yours = (jnp.stack([logits, jnp.zeros_like(logits)], -1) for logits in (ours, theirs))
    return distillation_loss(mine, yours, temperature)


def tally(values: jax.Array, mask: jax.Array) -> MetricState:
    """Sum of ``values`` (b,) over unmasked rows, with their number."""
    weights = mask.astype(jnp.float32)
    return MetricState((values * weights).sum(), weights.sum())


def classification_loss(logits: jax.Array, losses: jax.Array, batch: Batch) -> tuple[jax.Array, dict[str, MetricState]]:
    """Mean of ``losses`` (b,) over unmasked rows; and tallies of them, and of how often ``logits`` (b, c) are right."""
    right = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
    tallies = {"loss": tally(losses, batch["mask"]), "accuracy": tally(right, batch["mask"])}
    return masked_mean(losses, batch["mask"]), tallies


def balancing_weights(shares: np.ndarray) -> np.ndarray:
    """How much a record of each class (c,) counts, so that all classes sum to the same, and a record is 1 on average.

    Args:
        shares: of the training records, of each class; one that has none counts as a millionth.
    """
    return 1 / (len(shares) * np.maximum(np.asarray(shares, np.float64), 1e-6))


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in nats (b,) of ``logits`` (b,), the log odds of 1, against ``labels`` (b,) in 0..1."""
    logits = logits.astype(jnp.float32)
    return jax.nn.softplus(logits) - labels * logits
