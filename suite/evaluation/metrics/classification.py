"""Scores of classifiers (host, float64): of one of several classes a record, and of ordered classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.data.preprocessing.decision import EVEN, answered_classes
from suite.evaluation.metrics.events import event_scores
from suite.evaluation.metrics.rows import Measure, Rows, mean_of_known, ratio


@dataclass(frozen=True)
class MacroF1(Rows):
    """F1 of each class, averaged over the classes that are answered or right anywhere.

    ``total`` and ``count`` are classes (n,) int; a class that training does not have, -1, is one of its own.
    """

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        hit = said == right

        def macro(weights: np.ndarray) -> float:
            answered, actual, hits = _by_class(said, right, hit, weights)
            return mean_of_known(ratio(2 * hits, answered + actual))

        return macro


@dataclass(frozen=True)
class BalancedAccuracy(Rows):
    """Recall of each class, averaged over the classes that are right anywhere; the states are those of `MacroF1`."""

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        hit = said == right

        def balanced(weights: np.ndarray) -> float:
            _, actual, hits = _by_class(said, right, hit, weights)
            return mean_of_known(ratio(hits, actual))

        return balanced


@dataclass(frozen=True)
class QuadraticKappa(Rows):
    """Agreement of ordered classes (n,) beyond chance, errors weighed by the square of their distance (Cohen, 1968,
    doi 10.1037/h0026256)."""

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        said, right = said.astype(np.float64), right.astype(np.float64)

        def kappa(weights: np.ndarray) -> float:
            count = weights.sum()
            if not count:
                return float("nan")
            mean = lambda values: float((weights * values).sum() / count)
            # The mean squared distance of independent draws of both.
            chance = mean(said**2) + mean(right**2) - 2 * mean(said) * mean(right)
            return 1 - mean((said - right) ** 2) / chance if chance > 1e-12 else float("nan")

        return kappa


def _by_class(
    said: np.ndarray, right: np.ndarray, hit: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of each class from -1 on (c + 1,): that are answered so, that are so, and both."""
    size = int(max(said.max(initial=0), right.max(initial=0))) + 2
    count = lambda classes, of: np.bincount(classes + 1, of, size)
    return count(said, weights), count(right, weights), count(right, weights * hit)


def class_scores(logits: np.ndarray, labels: np.ndarray, threshold: float = EVEN) -> dict[str, MetricState]:
    """Scores of the logits, or log probabilities, (n, c) of c classes against the right ones.

    Args:
        logits: of each class.
        labels: (n,) the right class; below 0 where training does not have it: such a record counts as a wrong answer,
            and is left out of what measures probabilities.
        threshold: of two classes, the least probability of the second one where that is answered.

    Returns:
        ``accuracy``, ``loss`` (cross-entropy in nats), ``macro_f1``, ``balanced_accuracy`` and ``brier``; of two
        classes also ``f1``, ``precision``, ``recall``, ``auc`` and ``average_precision`` of the second one.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    known, two = labels >= 0, logits.shape[-1] == 2
    shifted = logits - logits.max(-1, keepdims=True)
    shares = np.exp(shifted)
    sums = shares.sum(-1)
    shares /= sums[:, None]
    actual = np.maximum(labels, 0)[:, None]
    losses = np.log(sums) - np.take_along_axis(shifted, actual, -1)[:, 0]
    squares = (shares**2).sum(-1) - 2 * np.take_along_axis(shares, actual, -1)[:, 0] + 1
    answered = answered_classes(shares, threshold) if threshold != EVEN else logits.argmax(-1)
    scores: dict[str, MetricState] = {
        "accuracy": MetricState(float((answered == labels).sum()), len(labels)),
        "loss": MetricState(losses[known].sum(), int(known.sum())),
        "macro_f1": MacroF1((answered,), (labels,)),
        "balanced_accuracy": BalancedAccuracy((answered,), (labels,)),
        # Of two classes as Brier's score is commonly given: of the event alone, which is half of the sum over both.
        "brier": MetricState((squares[known] / (2 if two else 1)).sum(), int(known.sum())),
    }
    if not two:
        return scores
    return {**scores, **event_scores(logits[known, 1] - logits[known, 0], labels[known] == 1, answered[known] == 1)}


def classification_scores(
    outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any], threshold: float = EVEN, key: str = "label"
) -> dict[str, MetricState]:
    """`class_scores` of ``outputs["logits"]`` (b, c) against ``batch[key]`` (b,), over unmasked rows."""
    mask = np.asarray(batch["mask"])
    return class_scores(np.asarray(outputs["logits"])[mask], np.asarray(batch[key])[mask], threshold)


def ordered_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, MetricState]:
    """What `class_scores` does not say of ordered classes: ``rank_mae`` and ``quadratic_kappa``.

    Args:
        probabilities: (n, c), from the lowest class to the highest; the likeliest is answered.
        labels: (n,) the right class; records of classes that training does not have, below 0, are left out.
    """
    known = np.asarray(labels) >= 0
    answered, right = np.asarray(probabilities).argmax(-1)[known], np.asarray(labels, np.int64)[known]
    return {
        "rank_mae": MetricState(float(np.abs(answered - right).sum()), len(right)),
        "quadratic_kappa": QuadraticKappa((answered,), (right,)),
    }


register_metric(
    "macro_f1",
    "F1 (the harmonic mean of precision and recall) of each class, averaged over classes: rare classes count as much "
    "as frequent ones. 100 % is best.",
    "higher",
    title="macro F1",
    share=True,
)
register_metric(
    "balanced_accuracy",
    "Recall of each class, averaged over classes: what always giving one answer reaches is one over their number.",
    "higher",
    share=True,
)
register_metric(
    "rank_mae",
    "Mean distance of the answered class from the right one, in ranks of the order: 0 is best, 1 is a neighbour.",
    "lower",
    title="MAE in ranks",
)
register_metric(
    "quadratic_kappa",
    "Agreement with the right ordered classes beyond chance, errors weighed by their squared distance: 1 is best, 0 is "
    "chance.",
    "higher",
    title="quadratic kappa",
)
