"""Scores of several labels a record (host, float64). Dims: n records, c labels."""

from dataclasses import dataclass

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.preprocessing.decision import EVEN, event_probabilities
from suite.evaluation.metrics.ranking import label_areas
from suite.evaluation.metrics.rows import Measure, Rows, mean_of_known, ratio


@dataclass(frozen=True)
class LabelF1(Rows):
    """F1 of each label, averaged over the labels that are answered or right anywhere; states are bool (n, c)."""

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        hits, either = (said & right).astype(np.float64), said.astype(np.float64) + right

        def macro(weights: np.ndarray) -> float:
            return mean_of_known(ratio(2 * (weights @ hits), weights @ either))

        return macro


@dataclass(frozen=True)
class LabelAreas(Rows):
    """Area under the ROC curve of each label, averaged over the labels that some records have and others have not.

    ``total`` are scores (n, c), ``count`` bool (n, c).
    """

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        areas = label_areas(said, right)
        return lambda weights: mean_of_known(areas(weights))


def label_scores(
    logits: np.ndarray, right: np.ndarray, thresholds: np.ndarray | float = EVEN
) -> dict[str, MetricState]:
    """Scores of the log odds (n, c) of c labels against those that records have.

    Args:
        logits: of each label.
        right: (n, c), 1 where a record has the label.
        thresholds: probability from which a label is answered, one of each label or of all.

    Returns:
        ``micro_f1``, ``macro_f1``, ``hamming``, ``macro_auc`` and ``loss``, the cross-entropy in nats, a label.
    """
    logits, right = np.asarray(logits, np.float64), np.asarray(right) > 0.5
    answered = event_probabilities(logits) >= thresholds
    hits, either = float((answered & right).sum()), float(answered.sum() + right.sum())
    losses = (np.logaddexp(0, logits) - right * logits).mean(-1)
    return {
        "micro_f1": MetricState(2 * hits, either),
        "macro_f1": LabelF1((answered,), (right,)),
        "hamming": MetricState(float((answered != right).mean(-1).sum()), len(right)),
        "macro_auc": LabelAreas((logits,), (right,)),
        "loss": MetricState(losses.sum(), len(right)),
    }


register_metric(
    "micro_f1",
    "F1 over all labels of all records together: frequent labels decide it. 100 % is best.",
    "higher",
    title="micro F1",
    share=True,
)
register_metric(
    "hamming",
    "Share of the decisions, one a record and label, that are wrong (Hamming loss). 0 % is best; of rare labels, "
    "answering none comes close to that.",
    "lower",
    title="Hamming loss",
    share=True,
)
register_metric(
    "macro_auc",
    "Area under the ROC curve of each label, averaged over labels: how often a record with the label gets a higher "
    "score than one without. 0.5 is chance, 1 is best.",
    "higher",
    title="macro AUC",
)
