"""Codec of pictures in which things are found. Dims: b pictures of h x w pixels, k boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import column, reading
from suite.codecs.tiled_boxes import joined, views
from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.boxes import BoxLabels
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode, dimensions, name_of
from suite.data.preprocessing.letterbox import content, letterboxed, onto_pictures, placement
from suite.data.preprocessing.tiles import Tiles, cut

MOST = 1000
"""Most boxes of an answer."""


@dataclass(frozen=True, kw_only=True)
class PictureBoxes(Codec):
    """A model answers with boxes on a letterboxed picture, each with a class and a score; those of a score of at least
    ``threshold`` are answered, in pixels of the picture as it was given, the surest first. A picture that is larger
    than a tile has a row for itself and one for each tile."""

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
    tiles: Tiles = field(default_factory=Tiles)
    """How large pictures are cut."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, _ = self.statistics.shape
        about = f"an image, scaled to fit in {width} x {height} pixels, aspect kept; of animations the first frame"
        if self.tiles.size is not None:
            about += f"; larger ones than {self.tiles.size[1]} x {self.tiles.size[0]} in tiles, too"
        return (Input(name=self.image, kind="image", description=about, limit=MAX_PIXELS),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "what is found: left, top, right and bottom in pixels of the image, its label and its score"
        boxes = Output(name="boxes", kind="boxes", description=about, choices=tuple(self.labels.names))
        return boxes, *self.tiles.outputs

    def rows_of(self, columns: Columns) -> np.ndarray | None:
        if self.tiles.size is None:
            return None
        with reading(self.image):
            return np.array([len(self._views(value, *dimensions(value))) for value in column(columns, self.image)], int)

    def _views(self, value: Any, height: int, width: int) -> np.ndarray:
        return views(self.tiles, height, width, name_of(value))

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (n, h, w, c), letterboxed; ``content`` float32 (n, 4), left, top, right and bottom of what is
        picture there, not canvas."""
        height, width, channels = self.statistics.shape
        size = height, width
        how = channels, self.statistics.background, self.statistics.white
        with reading(self.image):
            pixels = [(value, decode(value, None, *how)) for value in column(columns, self.image)]
            parts = [part for value, whole in pixels for part in cut(whole, self._views(value, *whole.shape[:2]))]
        if not parts:
            return {"image": np.zeros((0, *size, channels), np.uint8), "content": np.zeros((0, 4), np.float32)}
        placed = np.stack([placement((part.shape[0], part.shape[1]), size) for part in parts])
        return {"image": np.stack([letterboxed(part, size) for part in parts]), "content": content(placed)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """One answer a picture, of ``boxes`` (n, k, 4) in pixels of the canvas, ``scores`` (n, k), 0 where there is no
        box, and ``labels`` (n, k)."""
        height, width, _ = self.statistics.shape
        boxes, scores, labels = (np.asarray(outputs[name]) for name in ("boxes", "scores", "labels"))
        answers, begin = [], 0
        for value in column(columns, self.image):
            places = self._views(value, *dimensions(value))
            rows = slice(begin, begin := begin + len(places))
            sides = (places[:, 2:] - places[:, :2]).tolist()
            placed = np.stack([placement((high, wide), (height, width)) for wide, high in sides])
            stored = onto_pictures(boxes[rows], placed) + np.tile(places[:, None, :2], 2)
            answer: dict[str, Any] = {"boxes": self._answer(stored, scores[rows], labels[rows], places)}
            answers.append(answer if self.tiles.size is None else {**answer, "tiles": len(places)})
        return answers

    def _answer(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, places: np.ndarray
    ) -> list[dict[str, Any]]:
        """The boxes of a picture, the surest first; none that is not finite or of no class, as a damaged model's."""
        said = (scores > 0) & (scores >= self.threshold) & np.isfinite(boxes).all(-1)
        said &= np.isfinite(scores) & (labels >= 0) & (labels < len(self.labels.names))
        if len(places) > 1:
            said &= joined(np.nan_to_num(boxes), np.where(said, scores, 0), labels, places).reshape(said.shape)
        boxes, scores, labels, said = boxes.reshape(-1, 4), scores.ravel(), labels.ravel(), said.ravel()
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
