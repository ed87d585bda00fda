"""Precision, recall and ROC at every threshold, thinned to what a plot can show."""

import numpy as np

POINTS = 160
"""Most points of a curve."""


def precision_recall(
    scores: np.ndarray, truth: np.ndarray, positives: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) (k,) at falling thresholds; from the first record on, where precision is known.

    Args:
        scores: (n,).
        truth: (n,) bool, which records are of the class.
        positives: how many there are, where some have no score at all; None: those of ``truth``.
    """
    true, false = _found(scores, truth)
    return _thinned(true / (truth.sum() if positives is None else positives), true / (true + false))


def roc(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share falsely found, share found) (k,) at falling thresholds, from (0, 0) to (1, 1)."""
    true, false = (np.concatenate([[0], counts]) for counts in _found(scores, truth))
    return _thinned(false / (~truth).sum(), true / truth.sum())


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Precision at each threshold, weighted by the recall that it adds."""
    true, false = _found(scores, truth)
    return float((np.diff(true, prepend=0) * true / (true + false)).sum() / truth.sum())


def _found(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the class, and of all others, have a score of at least each distinct one, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    true = np.cumsum(truth[order])[last]
    return true, last + 1 - true


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
    return x[places], y[places]
