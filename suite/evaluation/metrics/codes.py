"""How many of the codes of a book, or of the clusters of a clustering, are in use. Dims: g books, v codes of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric


@dataclass(frozen=True)
class UsedCodes(MetricState):
    """The exponential of the entropy of the codes, the mean over books: 1 where all are one code, v where each is as
    frequent.

    Attributes:
        total: (g, v), how often each code came about.
        count: how many came about in a book.
    """

    def __add__(self, other: MetricState) -> "UsedCodes":
        return UsedCodes(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """nan over nothing."""
        if not self.count:
            return math.nan
        shares = np.asarray(self.total, np.float64) / np.asarray(self.total, np.float64).sum(-1, keepdims=True)
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)
        return float(np.exp(entropy).mean())

    @staticmethod
    def resampled(rows: Sequence[MetricState], weights: np.ndarray) -> np.ndarray:
        totals = np.stack([np.asarray(row.total, np.float64) for row in rows])
        sums, counts = np.tensordot(weights, totals, 1), weights @ np.array([row.count for row in rows], np.float64)
        both = zip(sums, counts, strict=True)
        return np.array([replace(rows[0], total=total, count=count).value() for total, count in both])


register_metric(
    "codes_used",
    "How many codes are in use, were they all as frequent: the exponential of the entropy of those that are answered "
    "at hidden frames. Near 1 the model answers the same everywhere; at most the clusters, or the entries of a book.",
    "",
    title="codes in use",
)
