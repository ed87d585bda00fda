"""MetricState: a metric as sums that add over batches, devices and hosts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class MetricState:
    """A sum and what to divide it by. Metric states add over batches, devices and hosts; divide once, at the end.

    All that adds lies in ``total`` and ``count``: numbers, arrays, or tuples, lists and dicts of them. Fields that a
    subclass has besides are settings, the same in all states of a metric.

    `suite.evaluation.metric_pytree` tells JAX about it, so that jitted functions take and return it.
    """

    by_record: ClassVar[bool] = True
    """Whether the state of a single record is that record's part of the metric. Where it is False, as of the distance
    of two distributions, the metric is computed of a whole split only, and has no interval."""

    bounds: ClassVar[bool] = False
    """Whether the value bounds the interval of another metric; reports take intervals of their own instead."""

    total: Any
    count: Any

    def __add__(self, other: "MetricState") -> "MetricState":
        return MetricState(self.total + other.total, self.count + other.count)

    @property
    def absent(self) -> bool:
        """Whether a split has nothing that the metric is of, such as no small thing: the metric is left out then."""
        return False

    def value(self) -> float:
        """total / count, nan over nothing."""
        return float(self.total) / float(self.count) if float(self.count) else float("nan")

    @staticmethod
    def resampled(rows: Sequence["MetricState"], weights: np.ndarray) -> np.ndarray:
        """Value (k,) of each of k samples, in which row i of n (a record's own state) counts ``weights[:, i]`` times.

        Subclasses whose parts don't add as numbers do override it.
        """
        totals = np.array([row.total for row in rows], np.float64)
        counts = np.array([row.count for row in rows], np.float64)
        sums = zip(weights @ totals, weights @ counts, strict=True)
        return np.array([replace(rows[0], total=total, count=count).value() for total, count in sums])


def add(sums: dict[str, MetricState], more: Mapping[str, MetricState]) -> dict[str, MetricState]:
    """Metric states by name, added."""
    return {**sums, **{name: sums[name] + value if name in sums else value for name, value in more.items()}}
