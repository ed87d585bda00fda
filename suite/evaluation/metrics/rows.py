"""Metrics that are no sum of parts: their states keep what was said of each row and what is right, and join."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.metric import MetricState

Measure = Callable[[np.ndarray], float]
"""How often each row counts (n,) -> the metric."""


@dataclass(frozen=True)
class Rows(MetricState):
    """A metric of all rows together.

    Attributes:
        total: arrays (n, ...) of what was said, one a batch.
        count: arrays (n, ...) of what is right.
    """

    @abstractmethod
    def measure(self, said: np.ndarray, right: np.ndarray) -> Measure:
        """The metric of rows (n, ...) by how often each counts; what does not depend on that is computed once."""

    def __add__(self, other: MetricState) -> "Rows":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    def value(self) -> float:
        """The metric, each row counting once."""
        said, right = np.concatenate(self.total), np.concatenate(self.count)
        return self.measure(said, right)(np.ones(len(said)))

    @staticmethod
    def resampled(rows: Sequence[MetricState], weights: np.ndarray) -> np.ndarray:
        said = np.concatenate([part for row in rows for part in row.total])
        right = np.concatenate([part for row in rows for part in row.count])
        if len(said) != len(rows):  # a record without a label has no row
            weights = np.repeat(weights, [sum(map(len, row.total)) for row in rows], axis=1)
        measure = rows[0].measure(said, right)  # type: ignore[attr-defined]
        return np.array([measure(draw) for draw in weights.astype(np.float64)])


def ratio(part: float | np.ndarray, whole: float | np.ndarray) -> np.ndarray:
    """``part / whole``, nan where that is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0)


def mean_of_known(values: np.ndarray) -> float:
    """The mean of the values (n,) that are not nan; nan of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
