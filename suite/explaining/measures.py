"""Measures of explanations: how far each method can be believed on a run, with intervals over records.

Deletion and insertion (`Petsiuk et al., 2018, arXiv 1806.07421`) beside random orders of the same units; weights that
are shuffled from the head down (`Adebayo et al., 2018, arXiv 1810.03292`). Dims: u units, n records.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from suite.evaluation.bootstrap import DRAWS, LEVEL, Interval
from suite.evaluation.metrics.numbers import mid_ranks
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import COMPLETE, Explanation

STEPS = 32
"""Most steps in which units are taken away, or put in."""
RANDOM = 4
"""Random orders beside each explanation."""
UNCHANGED = 0.5
"""Rank correlation with the explanation of shuffled weights from which an explanation tells of the record alone."""
FILLINGS = ("blank", "records")
"""What stands in the place of absent units: the blank, or the values of another record, which the model has seen."""


@dataclass(frozen=True)
class Curves:
    """Areas under the curves of one record, and of random orders: of a probability, or of the share of a number's
    difference.

    Attributes:
        deletion, insertion: of the explanation's order.
        random_deletion, random_insertion: means over `RANDOM` orders.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float


def curves(
    explainer: Explainer, case: Case, order: np.ndarray, rng: np.random.Generator, other: Case | None = None
) -> Curves:
    """Deletion and insertion of one record.

    Args:
        explainer, case: of the record.
        order: of its units, what speaks most for the answer first.
        rng: of random orders.
        other: the record whose values fill the place of absent units; None: the blank.
    """
    count = case.count
    cuts = np.unique(np.linspace(0, count, min(STEPS, count) + 1).round().astype(int))
    orders = np.stack([order, *(rng.permutation(count) for _ in range(RANDOM))])
    ranks = np.argsort(orders, 1)
    removed = ranks[:, None] < cuts[:, None]  # (orders, steps, u)
    asked = np.concatenate([~removed, removed]).reshape(-1, count)
    others = None if other is None else [other] * len(asked)
    scores = explainer.scores(case, asked, others).reshape(2, len(orders), len(cuts))
    areas = np.trapezoid(_levels(case, scores), cuts / count, axis=2)
    return Curves(areas[0, 0], areas[1, 0], areas[0, 1:].mean(), areas[1, 1:].mean())


def _levels(case: Case, scores: np.ndarray) -> np.ndarray:
    """Probabilities, or how much of the difference of a number is there."""
    if case.subject.scale is not None:
        whole, none = scores[0, :, :1], scores[0, :, -1:]
        return (scores - none) / np.where(np.abs(whole - none) > 1e-12, whole - none, 1)
    return 1 / (1 + np.exp(-np.clip(scores, -60, 60)))


def ranked_alike(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of the sizes of attributions; 0 where either is constant."""
    ranks = np.stack([mid_ranks(np.abs(values))(np.ones(len(values))) for values in (one, other)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(1).min() > 0 else 0.0


def mean_interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean over records, with its interval by the bootstrap."""
    return statistic_interval(np.asarray(values, np.float64)[:, None], lambda rows: rows.mean(-2)[..., 0], seed)


def statistic_interval(rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Interval:
    """A statistic of records (n, k), with its interval.

    Args:
        rows: a row each record.
        statistic: (..., n, k) -> (...).
        seed: of the draws.
    """
    drawn = np.random.default_rng(seed).integers(0, len(rows), (DRAWS, len(rows)))
    values = statistic(rows[drawn])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(statistic(rows)), float(low), float(high))


@dataclass(frozen=True)
class Verdict:
    """What is known of one method on one run.

    Attributes:
        method: its name.
        records: how many were explained.
        completeness: median and 95th percentile of the error; nan of methods that do not add up.
        deletion: filling -> by which share the area under the deletion curve is below that of random orders.
        insertion: filling -> by which share the insertion curve's is above.
        randomised: which weights were shuffled -> rank correlation with the explanation of the run itself.
    """

    method: str
    records: int
    completeness: tuple[float, float] = (math.nan, math.nan)
    deletion: dict[str, Interval] = field(default_factory=dict)
    insertion: dict[str, Interval] = field(default_factory=dict)
    randomised: dict[str, Interval] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Why the method is not to be believed on this run, a line each; empty where no test speaks against it."""
        faults = []
        if self.completeness[0] > COMPLETE:
            faults.append(f"attributions miss the difference of scores by {self.completeness[0]:.1%} in the median")
        for test, intervals in (("deletion", self.deletion), ("insertion", self.insertion)):
            if "blank" in intervals and not intervals["blank"].low > 0:
                faults.append(f"{test} by it is not surely better than by chance")
        last = self.randomised.get("all")
        if last is not None and last.value > UNCHANGED:
            faults.append("it hardly changes where all weights are shuffled: it shows the record more than the model")
        return faults


def verdict(
    name: str,
    explanations: Sequence[Explanation],
    areas: Mapping[str, Sequence[Curves]],
    randomised: Mapping[str, Sequence[float]],
) -> Verdict:
    """What measures of single records say together; arguments as in `Verdict`, by record."""
    missed = [one.completeness for one in explanations]
    complete = (math.nan, math.nan)
    if missed and not math.isnan(missed[0]):
        complete = (float(np.median(missed)), float(np.quantile(missed, 0.95)))
    deletion, insertion = {}, {}
    for filling, rows in areas.items():
        pairs = np.array([(c.deletion, c.random_deletion, c.insertion, c.random_insertion) for c in rows])
        deletion[filling] = statistic_interval(pairs, lambda rows: 1 - _ratio(rows[..., 0], rows[..., 1]))
        insertion[filling] = statistic_interval(pairs, lambda rows: _ratio(rows[..., 2], rows[..., 3]) - 1)
    alike = {stage: mean_interval(values) for stage, values in randomised.items()}
    return Verdict(name, len(explanations), complete, deletion, insertion, alike)


def _ratio(own: np.ndarray, random: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = own.mean(-1) / np.maximum(random.mean(-1), 1e-12)
    return ratio
