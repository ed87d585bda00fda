"""Recall by popularity: whether items that few users had are found as well as those that many had.

Dims: n items, b users, k places.
"""

from collections.abc import Sequence

import numpy as np

from suite.evaluation.artifacts import Shares
from suite.evaluation.metrics.recommendation import PLACES

THIRDS = ("most popular", "in between", "least popular")
"""Names of the thirds."""


def popularity_thirds(counts: np.ndarray) -> np.ndarray:
    """The third (n,) of each item: 0 of the most popular ones, which a third of the training events is of, and so on.

    Args:
        counts: (n,) training events of each item, falling.
    """
    before = np.cumsum(counts) - counts
    return np.minimum(3 * before // max(int(counts.sum()), 1), 2).astype(np.int64)


def recall_by_popularity(counts: np.ndarray, wanted: Sequence[np.ndarray], top: np.ndarray, unknown: int) -> Shares:
    """How many of the held-out items of each third are among the first.

    Args:
        counts: (n,) training events of each item, falling.
        wanted: places among the items of those held out of each of b users.
        top: (b, k) places of the items ranked for each.
        unknown: held-out items that training had not.
    """
    third = popularity_thirds(counts)
    users = np.repeat(np.arange(len(wanted)), [len(row) for row in wanted])
    items = np.concatenate([np.zeros(0, np.int64), *wanted])
    hits = top[users] == items[:, None]
    found = np.stack([hits[:, :places].any(1) for places in PLACES], 1)
    held_out = np.bincount(third[items], minlength=3)
    happened = np.stack([np.bincount(third[items], column, minlength=3) for column in found.T], 1).astype(np.int64)
    groups = []
    for place, name in enumerate(THIRDS):
        own = counts[third == place]
        events = f"{own.min():,} to {own.max():,} training events each" if len(own) else "of no training event"
        groups.append(f"{name}: {len(own):,} items, {events}")
    return Shares(
        "held-out items",
        (*groups, "unknown to training"),
        tuple(f"Recall@{places}" for places in PLACES),
        np.append(held_out, unknown),
        np.concatenate([happened, np.zeros((1, len(PLACES)), np.int64)]),
    )
