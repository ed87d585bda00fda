"""Losses (jitted) and scores (host, float64) shared by the tasks, as tallies that add."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.contracts.metric import MetricState


def classification_scores(outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any]) -> dict[str, MetricState]:
    """Accuracy and cross-entropy (nats) of ``outputs["logits"]`` (b, c) against ``batch["label"]`` (b,).

    A record whose class training does not have (a label below 0) counts as a wrong answer; no answer is probable or
    improbable of it, so it is left out of the cross-entropy.
    """
    mask = np.asarray(batch["mask"])
    logits = np.asarray(outputs["logits"], np.float64)[mask]
    labels = np.asarray(batch["label"])[mask]
    shifted = logits - logits.max(-1, keepdims=True)
    known = labels >= 0
    losses = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, np.maximum(labels, 0)[:, None], -1)[:, 0]
    right = (logits.argmax(-1) == labels).astype(np.float64)
    return {
        "accuracy": MetricState(right.sum(), len(labels)),
        "loss": MetricState(losses[known].sum(), int(known.sum())),
    }
