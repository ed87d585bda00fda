"""Scores of marked spans (host, float64): precision, recall and F1 of whole entities, as CoNLL's and seqeval's."""

from collections import Counter
from collections.abc import Collection, Hashable

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric


def span_counts(
    answered: Collection[tuple[Hashable, int]], wanted: Collection[tuple[Hashable, int]], labels: int
) -> np.ndarray:
    """Spans by label (labels, 3) int64: those that are right, those that were answered, those that were wanted.

    Args:
        answered, wanted: (where, label) of each span; a span is right where both are those of one that is wanted.
        labels: how many there are.
    """
    right = set(answered) & set(wanted)
    counted = [Counter(label for _, label in spans) for spans in (right, answered, wanted)]
    return np.array([[count[label] for count in counted] for label in range(labels)], np.int64).reshape(labels, 3)


def span_scores(counts: np.ndarray) -> dict[str, MetricState]:
    """``entity_f1``, ``entity_precision``, ``entity_recall`` over all labels, of `span_counts` (labels, 3)."""
    right, answered, wanted = (float(count) for count in counts.sum(0))
    return {
        "entity_f1": MetricState(2 * right, answered + wanted),
        "entity_precision": MetricState(right, answered),
        "entity_recall": MetricState(right, wanted),
    }


register_metric(
    "entity_f1",
    "Harmonic mean of the entities' precision and recall, over all labels (micro). An entity counts as right where its "
    "first character, its last one and its label are all right. 100 % is best.",
    "higher",
    title="entity F1",
    share=True,
)
register_metric(
    "entity_precision",
    "Share of the entities marked that are right, in both ends and label. 100 % is best.",
    "higher",
    share=True,
)
register_metric(
    "entity_recall",
    "Share of the entities there are that are marked, with both ends and label right. 100 % is best. Entities that lie "
    "behind the last token that is read count as missed.",
    "higher",
    share=True,
)
