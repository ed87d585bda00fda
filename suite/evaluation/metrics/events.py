"""Scores of an event that happens or not (host, float64): at a threshold, at every threshold, of its probability."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.preprocessing.decision import EVEN, event_probabilities
from suite.evaluation.metrics.ranking import AveragePrecision, CalibrationError, Ranking


def event_scores(scores: np.ndarray, happened: np.ndarray, answered: np.ndarray) -> dict[str, MetricState]:
    """``f1``, ``precision``, ``recall``, ``auc`` and ``average_precision`` of an event.

    Args:
        scores: (n,) the higher, the likelier the event.
        happened: (n,) bool.
        answered: (n,) bool, whether the event is predicted.
    """
    hits, said, real = (float(part.sum()) for part in (answered & happened, answered, happened))
    ones = np.asarray(happened, np.float64)
    return {
        "f1": MetricState(2 * hits, said + real),
        "precision": MetricState(hits, said),
        "recall": MetricState(hits, real),
        "auc": Ranking((scores,), (ones,)),
        "average_precision": AveragePrecision((scores,), (ones,)),
    }


def click_scores(
    outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any], bins: int = 20, threshold: float = EVEN
) -> dict[str, MetricState]:
    """Scores of ``outputs["logits"]`` (b,) against ``batch["label"]`` (b,) in 0, 1.

    ``auc``: exact. ``loss``: cross-entropy in nats. ``calibration``: mean prediction over share of ones, 1 being
    right. ``calibration_error``: expected calibration error over ``bins`` equal bins of the probability. ``accuracy``,
    ``brier`` and those of `event_scores`: a probability of ``threshold`` or more predicts the event.
    """
    mask = np.asarray(batch["mask"])
    logits = np.asarray(outputs["logits"], np.float64)[mask]
    labels = np.asarray(batch["label"], np.float64)[mask]
    losses = np.logaddexp(0, logits) - labels * logits
    predicted = event_probabilities(logits)
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = np.bincount(place, predicted - labels, bins)
    answered, happened = predicted >= threshold, labels > 0.5
    return {
        "auc": Ranking((logits,), (labels,)),
        "loss": MetricState(losses.sum(), len(labels)),
        "calibration": MetricState(predicted.sum(), labels.sum()),
        "calibration_error": CalibrationError(gaps, len(labels)),
        "accuracy": MetricState(float((answered == happened).sum()), len(labels)),
        "brier": MetricState(((predicted - labels) ** 2).sum(), len(labels)),
        **event_scores(logits, happened, answered),
    }


register_metric(
    "f1",
    "Harmonic mean of precision and recall of the event, at the threshold that answers are given by. 100 % is best.",
    "higher",
    title="F1",
    share=True,
)
register_metric(
    "precision",
    "Share of the records predicted as the event that are it, at the threshold that answers are given by.",
    "higher",
    share=True,
)
register_metric(
    "recall",
    "Share of the events that are predicted as such, at the threshold that answers are given by.",
    "higher",
    share=True,
)
register_metric(
    "brier",
    "Mean squared distance of the predicted probabilities from what happened (Brier score): 0 is best. It punishes "
    "wrong answers and wrong confidence alike.",
    "lower",
    title="Brier score",
)
