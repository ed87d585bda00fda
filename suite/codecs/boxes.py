"""Codec of pictures in which things are found. Dims: b pictures of h x w pixels, k boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import column
from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.boxes import BoxLabels
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode
from suite.data.preprocessing.letterbox import content, letterboxed, onto_pictures, placement, placements

MOST = 1000
"""Most boxes of an answer."""


@dataclass(frozen=True, kw_only=True)
class PictureBoxes(Codec):
    """A model answers with boxes on a letterboxed picture, each with a class and a score; those of a score of at least
    ``threshold`` are answered, in pixels of the picture as it was given, the surest first."""

    number_bounds: ClassVar[Bounds] = {"threshold": (0.0, 1.0), "most": (1, MOST)}

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Size and channels of the canvas."""
    labels: BoxLabels
    """Classes."""
    threshold: float = 0.3
    """Least score of a box that is answered."""
    most: int = 100
    """Most boxes of an answer."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, _ = self.statistics.shape
        about = f"an image, scaled to fit in {width} x {height} pixels, aspect kept; of animations the first frame"
        return (Input(name=self.image, kind="image", description=about, limit=MAX_PIXELS),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "what is found: left, top, right and bottom in pixels of the image, its label and its score"
        return (Output(name="boxes", kind="boxes", description=about, choices=tuple(self.labels.names)),)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), letterboxed; ``content`` float32 (b, 4), left, top, right and bottom of what is
        picture there, not canvas."""
        height, width, channels = self.statistics.shape
        size = height, width
        how = channels, self.statistics.background, self.statistics.white
        pixels = [decode(value, None, *how) for value in column(columns, self.image)]
        if not pixels:
            return {"image": np.zeros((0, *size, channels), np.uint8), "content": np.zeros((0, 4), np.float32)}
        placed = np.stack([placement((picture.shape[0], picture.shape[1]), size) for picture in pixels])
        return {"image": np.stack([letterboxed(picture, size) for picture in pixels]), "content": content(placed)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """One answer a picture, of ``boxes`` (b, k, 4) in pixels of the canvas, ``scores`` (b, k), 0 where there is no
        box, and ``labels`` (b, k)."""
        height, width, _ = self.statistics.shape
        stored = onto_pictures(np.asarray(outputs["boxes"]), placements(column(columns, self.image), (height, width)))
        return [
            {"boxes": self._answer(*row)}
            for row in zip(stored, np.asarray(outputs["scores"]), np.asarray(outputs["labels"]), strict=True)
        ]

    def _answer(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        """The boxes of a picture, the surest first; none that is not finite or of no class, as a damaged model's."""
        said = (scores > 0) & (scores >= self.threshold) & np.isfinite(boxes).all(-1)
        said &= np.isfinite(scores) & (labels >= 0) & (labels < len(self.labels.names))
        order = np.argsort(-scores, kind="stable")
        chosen = order[said[order]][: self.most]
        return [
            {
                "box": [round(float(side), 2) for side in boxes[place]],
                "label": self.labels.names[int(labels[place])],
                "score": round(min(float(scores[place]), 1.0), 6),
            }
            for place in chosen
        ]
