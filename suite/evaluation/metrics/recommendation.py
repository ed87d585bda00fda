"""Scores of recommendations (host, float64): which of a user's held-out items stand in the first places of a ranking of
the whole catalogue. Dims: b users, k places."""

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric

PLACES = (5, 10, 20, 50)
"""Places up to which is counted."""


def recommendation_scores(hits: np.ndarray, wanted: np.ndarray) -> dict[str, MetricState]:
    """``recall_5``, ``ndcg_5``, ``hit_rate_5``, ``mrr_5`` and so on, each a mean over users.

    Args:
        hits: (b, k) bool, whether the item at each place of the ranking was held out; k is 50 at most.
        wanted: (b,) held-out items of each user, at least 1.
    """
    hits, wanted = np.asarray(hits, bool), np.asarray(wanted, np.int64)
    gains = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gains)])
    users = len(hits)
    scores: dict[str, MetricState] = {}
    for places in PLACES:
        first = hits[:, :places]
        found = first.sum(1)
        rank = np.where(found > 0, first.argmax(1) + 1, np.inf)
        values = {
            "recall": found / wanted,
            "ndcg": (first * gains[: first.shape[1]]).sum(1) / ideal[np.minimum(wanted, first.shape[1])],
            "hit_rate": (found > 0).astype(np.float64),
            "mrr": 1 / rank,
        }
        scores |= {f"{name}_{places}": MetricState(float(value.sum()), users) for name, value in values.items()}
    return scores


_CATALOGUE = "All items are ranked but those of the user's history; of equal scores the more frequent item comes first."
for _places in PLACES:
    for _name, _title, _meaning in (
        ("recall", "Recall", f"Share of a user's held-out items among the first {_places}, on average over users."),
        (
            "ndcg",
            "NDCG",
            f"How high the held-out items stand among the first {_places}: each counts 1 over the logarithm of its "
            "place, over what an ideal ranking would reach, on average over users.",
        ),
        ("hit_rate", "HR", f"Share of users of whom a held-out item is among the first {_places}."),
        ("mrr", "MRR", f"1 over the place of the first held-out item, 0 beyond {_places}, on average over users."),
    ):
        register_metric(
            f"{_name}_{_places}",
            f"{_meaning} {_CATALOGUE}",
            "higher",
            title=f"{_title}@{_places}",
            share=_name in ("recall", "hit_rate"),
        )
