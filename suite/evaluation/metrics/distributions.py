"""Distances of two sets of feature vectors, such as of made and of real pictures, in float64. No interval: each is of
whole sets.

Dims: n and m vectors, d features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric

NEIGHBOURS = 3
"""The k of precision and recall."""
_ROWS = 1000
"""Vectors that are compared with all others at a time."""


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """The Fréchet distance of the normal distributions of both sets' means and covariances (`Heusel et al., 2017
    <https://arxiv.org/abs/1706.08500>`_), n and m at least 2; nan below.

    The trace of the root of the product is that of the root of a symmetric matrix, whose eigenvalues are real.
    """
    if min(len(real), len(made)) < 2:
        return float("nan")
    (first, first_cov), (second, second_cov) = _moments(real), _moments(made)
    values, vectors = np.linalg.eigh(first_cov)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second_cov @ root), 0)).sum()
    return float(np.square(first - second).sum() + np.trace(first_cov) + np.trace(second_cov) - 2 * shared)


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(0)
    centred = vectors - mean
    return mean, centred.T @ centred / (len(vectors) - 1)


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """The squared maximum mean discrepancy with the kernel (x y / d + 1)^3, without bias, so that it may be below 0
    (`Bińkowski et al., 2018 <https://arxiv.org/abs/1801.01401>`_); of all pairs, not of drawn subsets."""
    if min(len(real), len(made)) < 2:
        return float("nan")
    real, made = np.asarray(real, np.float64), np.asarray(made, np.float64)

    def total(first: np.ndarray, second: np.ndarray) -> float:
        parts = (first[i : i + _ROWS] @ second.T for i in range(0, len(first), _ROWS))
        return sum(float(((part / first.shape[1] + 1) ** 3).sum()) for part in parts)

    def within(vectors: np.ndarray) -> float:
        own = (np.square(vectors).sum(1) / vectors.shape[1] + 1) ** 3
        return (total(vectors, vectors) - float(own.sum())) / (len(vectors) * (len(vectors) - 1))

    return within(real) + within(made) - 2 * total(real, made) / (len(real) * len(made))


def coverage(of: np.ndarray, by: np.ndarray, neighbours: int = NEIGHBOURS) -> float:
    """Share of the vectors ``of`` that lie within the manifold of ``by``: not further from one of them than its k-th
    neighbour among ``by`` is (`Kynkäänniemi et al., 2019 <https://arxiv.org/abs/1904.06991>`_).

    Of made vectors by real ones it is precision, of real ones by made ones recall.
    """
    if not len(of) or len(by) <= neighbours:
        return float("nan")
    of, by = np.asarray(of, np.float64), np.asarray(by, np.float64)
    radii = np.concatenate([np.partition(part, neighbours, 1)[:, neighbours] for part in _distances(by, by)])
    return float(np.concatenate([(part <= radii).any(1) for part in _distances(of, by)]).mean())


def _distances(first: np.ndarray, second: np.ndarray):
    """Squared distances (rows, m), some rows at a time."""
    lengths = np.square(second).sum(1)
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS]
        yield np.maximum(np.square(rows).sum(1)[:, None] - 2 * rows @ second.T + lengths, 0)


FIGURES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "fid": frechet_distance,
    "kid": kernel_distance,
    "precision": lambda real, made: coverage(made, real),
    "recall": lambda real, made: coverage(real, made),
}
"""Figure -> function of the real and the made vectors."""


@dataclass(frozen=True)
class TwoSets(MetricState):
    """One of `FIGURES`, of the vectors of all batches.

    Attributes:
        total: the real and the made vectors, each a tuple of (b, d).
        count: made vectors.
        figure: its name.
    """

    by_record: ClassVar[bool] = False
    figure: str = "fid"

    def __add__(self, other: MetricState) -> "TwoSets":
        pairs = zip(self.total, other.total, strict=True)
        return replace(self, total=tuple((*own, *more) for own, more in pairs), count=self.count + other.count)

    def value(self) -> float:
        """The figure; nan over too few."""
        if not self.count:
            return float("nan")
        return FIGURES[self.figure](*(np.concatenate(parts) for parts in self.total))


def set_scores(real: np.ndarray, made: np.ndarray, ending: str = "") -> dict[str, MetricState]:
    """All `FIGURES` of two arrays (b, d), by name and ``ending``."""
    return {f"{name}{ending}": TwoSets(((real,), (made,)), len(made), name) for name in FIGURES}


register_metric(
    "fid",
    "Fréchet distance of made from real pictures, in the features that the task names: 0 where they are alike. It "
    "depends on the features and on the number of pictures, so compare it with fid_real and nothing else.",
    "lower",
    title="FID",
)
register_metric(
    "fid_real",
    "The same of as many training pictures: what perfect pictures would have, the least that can be hoped for.",
    title="FID of real pictures",
)
register_metric(
    "kid",
    "Kernel distance of made from real pictures, without bias by their number: about 0 where they are alike.",
    "lower",
    title="KID",
)
register_metric("kid_real", "The same of as many training pictures.", title="KID of real pictures")
