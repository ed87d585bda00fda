"""Shapley values: what each unit adds on average over all orders in which units come (`Lundberg and Lee, 2017, arXiv
1705.07874`). They add up to the difference of scores, exactly. Dims: u units.
"""

import math

import numpy as np

from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation

EXACT = 12
"""Units up to which all subsets are asked."""
PAIRS = 50
"""Orders that are drawn, each with its reverse (`Mitchell et al., 2022, JMLR 23`)."""


def shapley(explainer: Explainer, case: Case, pairs: int = PAIRS, seed: int = 0) -> Explanation:
    """Exact of few units, otherwise of drawn orders, with the standard error of each value.

    Args:
        explainer, case: of the record.
        pairs: orders that are drawn, and as many reversed.
        seed: of the draw.
    """
    if case.count <= EXACT:
        return Explanation("shapley", case.subject, case.division, _exact(explainer, case))
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(case.count) for _ in range(pairs)])
    values = (_added(explainer, case, orders) + _added(explainer, case, orders[:, ::-1])) / 2
    errors = values.std(0, ddof=1) / math.sqrt(pairs) if pairs > 1 else np.full(case.count, math.nan)
    remark = f"of {2 * pairs} drawn orders; ± is a standard error"
    return Explanation("shapley", case.subject, case.division, values.mean(0), errors=errors, remarks=(remark,))


def _exact(explainer: Explainer, case: Case) -> np.ndarray:
    count = case.count
    subsets = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1
    scores = np.empty(len(subsets))
    scores[0], scores[-1] = case.subject.blank, case.subject.score
    if len(subsets) > 2:
        scores[1:-1] = explainer.scores(case, subsets[1:-1])
    sizes = subsets.sum(1)
    weights = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    values = np.empty(count)
    for unit in range(count):
        without = np.flatnonzero(subsets[:, unit] == 0)
        values[unit] = (weights[sizes[without]] * (scores[without | 1 << unit] - scores[without])).sum()
    return values


def _added(explainer: Explainer, case: Case, orders: np.ndarray) -> np.ndarray:
    """What each unit adds where they come in these orders (k, u): (k, u)."""
    pairs, count = orders.shape
    ranks = np.argsort(orders, 1)
    present = ranks[:, None] < np.arange(1, count)[:, None]  # the first one, the first two, ...
    scores = np.empty((pairs, count + 1))
    scores[:, 0], scores[:, -1] = case.subject.blank, case.subject.score
    scores[:, 1:-1] = explainer.scores(case, present.reshape(-1, count)).reshape(pairs, count - 1)
    added: np.ndarray = np.take_along_axis(np.diff(scores, axis=1), ranks, 1)
    return added
