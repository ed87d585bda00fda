"""Artifact of embeddings: a sample of records with their vectors, to be projected and looked up by nearness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suite.contracts.artifact import Artifact
from suite.evaluation.artifacts import Given, Image

KEPT = 600
"""Records of a split that a map holds."""
SIDE = 64
"""Longest side of a picture that a map holds, in pixels."""
_SPREAD = 2654435761
"""Knuth's multiplier: places of records in a row become numbers in no order."""


@dataclass(frozen=True)
class VectorMap(Artifact):
    """An even sample of a split, by the records' places alone.

    Attributes:
        draws: (m,) int64, one a record; those of the smallest are kept.
        vectors: (m, d) float32.
        given: m, what the encoder was given.
        groups: m labels; empty texts where there are none.
        among: records that they were drawn from.
    """

    draws: np.ndarray
    vectors: np.ndarray
    given: tuple[Given, ...]
    groups: tuple[str, ...]
    among: int

    @classmethod
    def of(cls, places: np.ndarray, vectors: np.ndarray, given: Sequence[Given], groups: Sequence[str]) -> "VectorMap":
        """From records at ``places`` (n,) of the split."""
        draws = np.asarray(places, np.int64) * _SPREAD % 2**32
        whole = cls(draws, np.asarray(vectors, np.float32), tuple(given), tuple(groups), len(draws))
        return whole._sampled()

    def __add__(self, other: "VectorMap") -> "VectorMap":
        return VectorMap(
            np.concatenate([self.draws, other.draws]),
            np.concatenate([self.vectors, other.vectors]),
            self.given + other.given,
            self.groups + other.groups,
            self.among + other.among,
        )._sampled()

    def _sampled(self) -> "VectorMap":
        kept = np.argsort(self.draws, kind="stable")[:KEPT]
        given, groups = ([values[i] for i in kept] for values in (self.given, self.groups))
        return VectorMap(self.draws[kept], self.vectors[kept], tuple(given), tuple(groups), self.among)

    def projected(self) -> tuple[np.ndarray, np.ndarray]:
        """The vectors (m, 2) on the two axes of their largest variance (Pearson, 1901), and the share of each axis in
        the whole variance (2,). The sign of an axis is such that its largest entry is positive."""
        centred = self.vectors - self.vectors.mean(0)
        left, sizes, _ = np.linalg.svd(np.asarray(centred, np.float64), full_matrices=False)
        sizes = np.pad(sizes, (0, max(0, 2 - len(sizes))))
        points = np.pad(left, ((0, 0), (0, max(0, 2 - left.shape[1]))))[:, :2] * sizes[:2]
        signs = np.sign(points[np.abs(points).argmax(0), (0, 1)])
        shares = sizes[:2] ** 2 / max((sizes**2).sum(), 1e-12)
        return points * np.where(signs == 0, 1, signs), shares

    def nearest(self, place: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` other records of the largest cosine with one, and the cosines, falling."""
        lengths = np.maximum(np.linalg.norm(self.vectors, axis=1), 1e-12)
        cosines = self.vectors @ self.vectors[place] / (lengths * lengths[place])
        cosines[place] = -np.inf
        order = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - 1)]
        return order, cosines[order]


def thumbnail(pixels: np.ndarray) -> Image:
    """A picture uint8 (h, w, c), of at most `SIDE` pixels a side: every so many-th pixel of it."""
    step = max(1, -(-max(pixels.shape[:2]) // SIDE))
    return Image(np.ascontiguousarray(pixels[::step, ::step]))
