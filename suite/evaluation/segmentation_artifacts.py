"""Artifacts of masks: which classes are taken for which, and the pictures that went worst.

Dims: b pictures of h x w pixels, c classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch
from suite.data.preprocessing.masks import IGNORED, overlaid
from suite.evaluation.artifacts import Example, Gallery, Image
from suite.evaluation.metrics.rows import mean_of_known
from suite.evaluation.metrics.segmentation import overlaps, pixel_confusion

GAP = 4
"""Pixels between a picture with its actual mask and the same with the predicted one."""
NAMED = 4
"""Classes of a picture that are named."""


@dataclass(frozen=True)
class PixelClasses(Artifact):
    """Pixels by actual and predicted class.

    Attributes:
        names: of the c classes.
        counts: (c, c) int64, by actual (rows) and predicted class (columns).
    """

    names: tuple[str, ...]
    counts: np.ndarray

    def __add__(self, other: "PixelClasses") -> "PixelClasses":
        return replace(self, counts=self.counts + other.counts)


def segmentation_artifacts(answered: np.ndarray, batch: Batch, names: Sequence[str]) -> dict[str, Artifact]:
    """Artifacts of a batch.

    Args:
        answered: classes (b, h, w).
        batch: ``image`` uint8 (b, h, w, n), and ``classes`` (b, h, w), above c where a pixel does not count.
        names: of the c classes.
    """
    wanted, images = np.asarray(batch["classes"]), np.asarray(batch["image"])
    of_pictures = [pixel_confusion(said, right, len(names)) for said, right in zip(answered, wanted, strict=True)]
    scores = np.array([mean_of_known(overlaps(confusion)) for confusion in of_pictures])

    def show(place: int) -> Example:
        counted = wanted[place] < len(names)
        masks = wanted[place], np.where(counted, answered[place], IGNORED)
        parts = [overlaid(images[place], mask) for mask in masks]
        gap = np.full((parts[0].shape[0], GAP, 3), 255, np.uint8)
        confusion = of_pictures[place]
        return Example(
            Image(np.concatenate([parts[0], gap, parts[1]], axis=1)),
            wanted=_shares(confusion.sum(1), names),
            answered=_shares(confusion.sum(0), names),
            loss=1 - float(scores[place]),
            note=f"mIoU {100 * scores[place]:.0f} %",
        )

    about = "Pictures of the lowest mIoU: left with the actual mask, right with the predicted one."
    return {
        "Classes of pixels": PixelClasses(tuple(names), np.stack(of_pictures).sum(0, dtype=np.int64)),
        "Worst pictures": Gallery.worst(about, 1 - scores, show),
    }


def _shares(pixels: np.ndarray, names: Sequence[str]) -> str:
    """The classes of a picture with their shares, the largest first."""
    order = [k for k in np.argsort(-pixels, kind="stable") if pixels[k]]
    shown = ", ".join(f"{names[k]} {100 * pixels[k] / pixels.sum():.0f} %" for k in order[:NAMED])
    return shown + (", ..." if len(order) > NAMED else "")
