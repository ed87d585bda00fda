"""Scores of embeddings (host, float64): at which rank each record finds its partner among all of the split."""

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.metrics.numbers import RankCorrelation

FIRST = (1, 5, 10)
"""Ranks up to which a partner counts as found."""


def retrieval_scores(ranks: np.ndarray, losses: np.ndarray) -> dict[str, MetricState]:
    """``recall_at_1``, ``recall_at_5``, ``recall_at_10``, ``mrr`` and ``loss``.

    Args:
        ranks: (n,) of the partner, or the first of several, from 1.
        losses: (n,) in nats.
    """
    ranks, count = np.asarray(ranks, np.float64), len(ranks)
    found = {f"recall_at_{first}": MetricState(float((ranks <= first).sum()), count) for first in FIRST}
    reciprocal = MetricState(float((1 / ranks).sum()), count)
    return {**found, "mrr": reciprocal, "loss": MetricState(float(np.asarray(losses, np.float64).sum()), count)}


def similarity_scores(cosines: np.ndarray, scores: np.ndarray) -> dict[str, MetricState]:
    """``spearman`` and ``loss``, the mean squared distance, of cosines (n,) and scores (n,) in 0..1."""
    cosines, scores = np.asarray(cosines, np.float64), np.asarray(scores, np.float64)
    squares = MetricState(float(np.square(cosines - scores).sum()), len(scores))
    return {"spearman": RankCorrelation((cosines,), (scores,)), "loss": squares}


for _first in FIRST:
    _about = "ranks first" if _first == 1 else f"is among the first {_first}"
    register_metric(
        f"recall_at_{_first}",
        f"Share of records whose partner {_about}, of all candidates of the split by the cosine of their vectors. Of n "
        f"candidates chance finds {_first} in n: compare splits of one size alone.",
        "higher",
        title=f"Recall@{_first}",
        share=True,
    )
register_metric(
    "mrr",
    "Mean reciprocal rank: 1 over the rank at which a record finds its partner among all candidates of the split, on "
    "average. 1 is best; the more candidates, the harder.",
    "higher",
    title="MRR",
)
