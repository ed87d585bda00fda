"""Scores of rankings (host, float64): areas under curves, average precision, calibration."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.metrics.rows import Measure, Rows


@dataclass(frozen=True)
class Ranking(Rows):
    """The area under the ROC curve over all rows, exact; nan where all labels are equal.

    Attributes:
        total: arrays (n,) of scores, one a batch.
        count: arrays (n,) of labels, 0 or 1.
    """

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        grouped = _by_score(said, right)
        return lambda weights: _area(*grouped(weights))


@dataclass(frozen=True)
class RankingBound(Ranking):
    """A bound of the bootstrap interval of the area.

    Attributes:
        quantile: 0.025 for the lower bound of 95 %.
        draws: samples of the bootstrap.
    """

    by_record: ClassVar[bool] = False
    bounds: ClassVar[bool] = True

    quantile: float = 0.5
    draws: int = 1000

    def value(self) -> float:
        """The bound; nan where all labels are equal."""
        areas = bootstrap_auc(np.concatenate(self.total), np.concatenate(self.count), self.draws)
        return float(np.quantile(areas, self.quantile)) if len(areas) else float("nan")


@dataclass(frozen=True)
class AveragePrecision(Rows):
    """Precision at each threshold, weighted by the recall that it adds, of scores (n,) against labels (n,) in 0, 1; nan
    without a label 1."""

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        grouped = _by_score(said, right)

        def average(weights: np.ndarray) -> float:
            ones, zeros = (counts[::-1] for counts in grouped(weights))  # from the highest score down
            hits = np.cumsum(ones)
            answered = hits + np.cumsum(zeros)
            if not len(ones) or not hits[-1]:
                return float("nan")
            return float((ones * hits / np.maximum(answered, 1e-300)).sum() / hits[-1])

        return average


@dataclass(frozen=True)
class CalibrationError(MetricState):
    """Expected calibration error: how far the mean prediction of a bin is from its share of ones, over rows.

    Attributes:
        total: (bins,) sums of prediction less label.
        count: rows.
    """

    def __add__(self, other: MetricState) -> "CalibrationError":
        return CalibrationError(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """The error, in 0..1; nan over nothing."""
        return float(np.abs(self.total).sum()) / float(self.count) if self.count else float("nan")


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a row of label 1 scores above one of label 0, ties counting half; nan without both labels."""
    ones, zeros = _by_score(scores, labels)(np.ones(len(labels)))
    return float(_area(ones, zeros))


def bootstrap_auc(scores: np.ndarray, labels: np.ndarray, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Areas under the ROC curve of ``draws`` samples of the rows, drawn with replacement; those of one label are
    left out. Quantiles 0.025 and 0.975 bound the 95 % interval (Efron, 1979, doi 10.1214/aos/1176344552)."""
    grouped = _by_score(scores, labels)
    areas = np.array([_area(*grouped(w)) for block in samples(len(labels), draws, seed) for w in block])
    return areas[np.isfinite(areas)]


def samples(count: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of ``count`` records is in each of ``draws`` samples, drawn with replacement: arrays (k, count) of
    some samples at a time, so that many records don't fill the memory."""
    rng = np.random.default_rng(seed)
    block = max(1, 4_000_000 // max(count, 1))
    for begin in range(0, draws, block):
        size = min(block, draws - begin)
        yield np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(size)])


def _by_score(scores: np.ndarray, labels: np.ndarray) -> Any:
    """Weights (n,) -> weighted numbers of ones and of zeros at each distinct score, rising."""
    order = np.argsort(scores, kind="stable")
    ranked, ones = np.asarray(scores)[order], np.asarray(labels, np.float64)[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, int)

    def grouped(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(weights, np.float64)[order]
        if not len(w):
            return w, w
        return np.add.reduceat(w * ones, starts), np.add.reduceat(w * (1 - ones), starts)

    return grouped


def _area(ones: np.ndarray, zeros: np.ndarray) -> float:
    pairs = ones.sum() * zeros.sum()
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + 0.5 * zeros)).sum() / pairs) if pairs else float("nan")


def label_areas(scores: np.ndarray, right: np.ndarray) -> Any:
    """How often each row counts (n,) -> the area under the ROC curve of each column (c,) of scores (n, c) against bool
    (n, c); nan where all of a column are alike."""
    columns = [_by_score(scores[:, place], right[:, place]) for place in range(scores.shape[1])]
    return lambda weights: np.array([_area(*grouped(weights)) for grouped in columns])


register_metric(
    "auc",
    "Area under the ROC curve: how often a record with the event gets a higher score than one without. 0.5 is chance, "
    "1 is best.",
    "higher",
    title="AUC",
)
register_metric(
    "average_precision",
    "Area under the precision-recall curve: precision at each threshold, weighted by the recall that it adds. "
    "1 is best; the share of events is chance. Of rare events it says more than the AUC.",
    "higher",
)
register_metric("auc_low", "Lower bound of the AUC's 95 % interval.", "higher", title="AUC, lower bound")
register_metric("auc_high", "Upper bound of the AUC's 95 % interval.", "higher", title="AUC, upper bound")
register_metric(
    "calibration",
    "Mean predicted probability over the share of events: 1 is right, more is too sure of the event.",
    "near 1",
)
register_metric(
    "calibration_error",
    "How far predicted probabilities are from what happened, on average over bins of the probability (expected "
    "calibration error). 0 is best.",
    "lower",
)
