"""The contracts every domain fulfils: Source, Data, Preprocessor, Batch, MetricState, Codec, Task, ModelConfig.

Data flows one way: ``Data.open`` -> ``Source[indices]`` -> columns -> ``Task.encode`` -> ragged or dense
arrays -> the pipeline pads them into a ``Batch`` -> ``Task.loss`` or ``Task.predict`` (jitted) ->
``Task.score`` and ``Task.decode`` (host). The trainer knows these names and no domain.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class MetricState:
    """A sum and what to divide it by. Metric states add over batches, devices and hosts; divide once, at the end.

    `suite.evaluation.losses` tells JAX about it, so that jitted functions take and return it.
    """

    total: Any
    count: Any

    def __add__(self, other: "MetricState") -> "MetricState":
        return MetricState(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """total / count, nan over nothing."""
        return float(self.total) / float(self.count) if float(self.count) else float("nan")

    @staticmethod
    def resampled(rows: Sequence["MetricState"], weights: np.ndarray) -> np.ndarray:
        """Value (k,) of each of k samples, in which row i of n (a record's own tally) counts ``weights[:, i]`` times.

        Kinds of tallies whose parts don't add as numbers do override it.
        """
        totals = np.array([row.total for row in rows], np.float64)
        counts = np.array([row.count for row in rows], np.float64)
        sums = zip(weights @ totals, weights @ counts, strict=True)
        return np.array([replace(rows[0], total=total, count=count).value() for total, count in sums])
