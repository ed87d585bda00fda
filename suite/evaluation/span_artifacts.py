"""Artifacts of marked spans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.artifact import Artifact


@dataclass(frozen=True)
class SpanTable(Artifact):
    """How well the spans of each label are found.

    Attributes:
        names: of the c labels.
        counts: (c, 3) int64: spans that are right, that were marked, and that there are.
    """

    names: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], counts: Sequence[np.ndarray]) -> "SpanTable":
        """From the counts of each record, as `suite.evaluation.metrics.spans.span_counts` gives them."""
        return cls(tuple(names), sum(counts, np.zeros((len(names), 3), np.int64)))

    def __add__(self, other: "SpanTable") -> "SpanTable":
        return replace(self, counts=self.counts + other.counts)
