"""Scores of masks (host). Dims: b pictures of h x w pixels, c classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.metrics.rows import mean_of_known, ratio


@dataclass(frozen=True)
class MeanOverlap(MetricState):
    """Intersection over union of each class, averaged over the classes that are there or are answered anywhere.

    ``total`` are pixels int64 (c, c) by actual (rows) and answered class; ``count`` is their sum.
    """

    def __add__(self, other: MetricState) -> "MeanOverlap":
        return MeanOverlap(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """The mean; nan over no pixel."""
        return mean_of_known(overlaps(self.total))

    @staticmethod
    def resampled(rows: Sequence[MetricState], weights: np.ndarray) -> np.ndarray:
        totals = np.tensordot(weights.astype(np.float64), np.stack([row.total for row in rows]), 1)
        return np.array([mean_of_known(overlaps(total)) for total in totals])


@dataclass(frozen=True)
class ClassOverlap(MetricState):
    """Intersection over union of one class."""

    @property
    def absent(self) -> bool:
        """Whether the class is neither there nor answered."""
        return not self.count

    def __add__(self, other: MetricState) -> "ClassOverlap":
        return ClassOverlap(self.total + other.total, self.count + other.count)


def pixel_confusion(answered: np.ndarray, wanted: np.ndarray, classes: int) -> np.ndarray:
    """Pixels int64 (c, c) by actual (rows) and answered class; those of no class are left out."""
    counted = wanted < classes
    places = wanted[counted].astype(np.int64) * classes + answered[counted]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def overlaps(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union float64 (c,) of each class; nan of one that is neither there nor answered."""
    hits = np.diagonal(confusion)
    return ratio(hits, confusion.sum(0) + confusion.sum(1) - hits)


def segmentation_scores(answered: np.ndarray, wanted: np.ndarray, names: Sequence[str]) -> dict[str, MetricState]:
    """``mIoU``, ``pixel_accuracy`` and ``NAME.IoU`` of each class.

    Args:
        answered: classes (b, h, w).
        wanted: the right ones, or above c where a pixel does not count.
        names: of the c classes.
    """
    confusion = pixel_confusion(answered, wanted, len(names))
    hits, pixels = np.diagonal(confusion).astype(np.float64), float(confusion.sum())
    either = cast(np.ndarray, confusion.sum(0) + confusion.sum(1)) - hits
    return {
        "mIoU": MeanOverlap(confusion, pixels),
        "pixel_accuracy": MetricState(float(hits.sum()), pixels),
        **{f"{name}.IoU": ClassOverlap(hits[k], float(either[k])) for k, name in enumerate(names)},
    }


_COUNTED = "pixels that are of a class and answered as it, over those that are either; pixels of no class don't count"
register_metric(
    "mIoU",
    f"Mean over the classes of the intersection over union: {_COUNTED}. A class that is nowhere, in pictures or in "
    "answers, is left out. 100 % is best; rare classes count as much as frequent ones.",
    "higher",
    title="mIoU",
    share=True,
)
register_metric(
    "IoU",
    f"Intersection over union: {_COUNTED}. Left out of a class that is nowhere. 100 % is best.",
    "higher",
    share=True,
)
register_metric(
    "pixel_accuracy",
    "Share of pixels whose class is right. 100 % is best; answering the most frequent class alone reaches its share.",
    "higher",
    share=True,
)
