"""Scores of predicted numbers (host, float64): R2, errors in the unit of the target, rank correlation."""

import math
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.metrics.rows import Measure, Rows


@dataclass(frozen=True)
class RootMean(MetricState):
    """The root of a mean of squares."""

    def __add__(self, other: MetricState) -> "RootMean":
        return RootMean(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """The root; nan over nothing."""
        return math.sqrt(max(float(self.total), 0.0) / float(self.count)) if self.count else float("nan")


@dataclass(frozen=True)
class Determination(MetricState):
    """R2: the share of the variance of the targets that predictions explain.

    Attributes:
        total: (3,) sums of squared errors, of targets less ``centre``, and of the squares of those.
        count: rows.
        centre: a number near the mean of the targets, without which sums of squares of large numbers lose their digits.
    """

    centre: float = 0.0

    def __add__(self, other: MetricState) -> "Determination":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    def value(self) -> float:
        """R2; nan where all targets are equal."""
        errors, first, second = np.asarray(self.total, np.float64)
        variation = second - first**2 / self.count if self.count else 0.0
        return float(1 - errors / variation) if variation > 1e-12 * abs(second) else float("nan")


@dataclass(frozen=True)
class RankCorrelation(Rows):
    """Spearman's rank correlation (1904, doi 10.2307/1412159): Pearson's of the ranks, equal values sharing theirs."""

    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        ranks = [mid_ranks(values) for values in (said, right)]

        def correlation(weights: np.ndarray) -> float:
            count = weights.sum()
            if not count:
                return float("nan")
            centred = []
            for rank in ranks:
                placed = rank(weights)
                centred.append(placed - (weights * placed).sum() / count)
            first, second = centred
            spread = math.sqrt((weights * first**2).sum() * (weights * second**2).sum())
            return float((weights * first * second).sum() / spread) if spread else float("nan")

        return correlation


def mid_ranks(values: np.ndarray) -> "Measure":
    """How often each row counts (n,) -> its mid-rank (n,) in such a sample."""
    _, places = np.unique(values, return_inverse=True)

    def ranks(weights: np.ndarray) -> np.ndarray:
        counts = np.bincount(places, weights)
        return (np.cumsum(counts) - (counts - 1) / 2)[places]

    return ranks  # type: ignore[return-value]


def number_scores(predicted: np.ndarray, targets: np.ndarray, centre: float = 0.0) -> dict[str, MetricState]:
    """``r2``, ``mae``, ``rmse`` and ``spearman`` of predictions (n,) against targets (n,).

    Args:
        predicted, targets: in the unit of the target.
        centre: a number near the mean of the targets.
    """
    predicted, targets = np.asarray(predicted, np.float64), np.asarray(targets, np.float64)
    errors, centred = predicted - targets, targets - centre
    squares = (errors**2).sum()
    return {
        "r2": Determination(np.array([squares, centred.sum(), (centred**2).sum()]), len(targets), centre),
        "mae": MetricState(np.abs(errors).sum(), len(targets)),
        "rmse": RootMean(squares, len(targets)),
        "spearman": RankCorrelation((predicted,), (targets,)),
    }


register_metric(
    "r2",
    "Share of the variance of the target that is explained: 1 is best, 0 is what always predicting the mean reaches, "
    "and less is worse than that. A few records of extreme targets decide much of it.",
    "higher",
    title="R²",
)
register_metric(
    "mae", "Mean distance of the prediction from the target, in the target's unit. 0 is best.", "lower", title="MAE"
)
register_metric(
    "rmse",
    "Root of the mean squared error, in the target's unit: large errors weigh more than in the MAE. 0 is best.",
    "lower",
    title="RMSE",
)
register_metric(
    "spearman",
    "Rank correlation of predictions and targets: whether higher targets get higher predictions, on any scale. 1 is "
    "best, 0 is chance.",
    "higher",
    title="Spearman's rho",
)
