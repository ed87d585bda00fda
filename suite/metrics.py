"""Losses (jitted) and scores (host, float64) shared by the tasks, as tallies that add."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.base import Tally


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``values`` (b,) over rows where ``mask`` (b,) is True; 0 over none."""
    weights = mask.astype(jnp.float32)
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1.0)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy in nats (b,) of ``logits`` (b, c) against integer ``labels`` (b,), label smoothing as in
    arXiv 1512.00567: ``smoothing`` of the target is spread evenly over all classes."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    return -(1 - smoothing) * picked - smoothing * log_probs.mean(-1) if smoothing else -picked


def tally(values: jax.Array, mask: jax.Array) -> Tally:
    """Sum of ``values`` (b,) over unmasked rows, with their number."""
    weights = mask.astype(jnp.float32)
    return Tally((values * weights).sum(), weights.sum())


def classification_scores(outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any]) -> dict[str, Tally]:
    """Accuracy and cross-entropy (nats) of ``outputs["logits"]`` (b, c) against ``batch["label"]`` (b,)."""
    mask = np.asarray(batch["mask"])
    logits = np.asarray(outputs["logits"], np.float64)[mask]
    labels = np.asarray(batch["label"])[mask]
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, labels[:, None], -1)[:, 0]
    right = (logits.argmax(-1) == labels).astype(np.float64)
    return {"accuracy": Tally(right.sum(), len(labels)), "loss": Tally(losses.sum(), len(labels))}


def class_answers(logits: np.ndarray, names: Sequence[str], top: int = 3) -> list[dict[str, Any]]:
    """``{"label", "probability", "top": {name: probability}}`` for each row of ``logits`` (b, c)."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    probabilities = shifted / shifted.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, -1)[:, :top]
    return [
        {
            "label": names[best[0]],
            "probability": round(float(row[best[0]]), 6),
            "top": {names[i]: round(float(row[i]), 6) for i in best},
        }
        for row, best in zip(probabilities, order, strict=True)
    ]


def add(sums: dict[str, Tally], more: Mapping[str, Tally]) -> dict[str, Tally]:
    """Tallies by name, added."""
    return {**sums, **{name: sums[name] + value if name in sums else value for name, value in more.items()}}
