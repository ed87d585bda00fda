"""Codec of pictures whose pixels are put into classes. Dims: b pictures of h x w pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.columns import column, reading
from suite.codecs.tiled_masks import blended
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, File, Input, Output
from suite.contracts.schemas import LISTED
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode, dimensions, name_of
from suite.data.preprocessing.letterbox import letterboxed, placement
from suite.data.preprocessing.masks import MaskLabels, palette, png, stored_mask
from suite.data.preprocessing.tiles import Tiles, cut


@dataclass(frozen=True, kw_only=True)
class PictureMasks(Codec):
    """A model answers with a class for each pixel of a letterboxed picture; the answer's mask is as large as the one
    that was given. A picture that is larger than a tile has a row for each of them."""

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Size and channels of the canvas."""
    labels: MaskLabels
    """Classes."""
    tiles: Tiles = field(default_factory=Tiles)
    """How large pictures are cut."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, _ = self.statistics.shape
        about = f"an image, scaled to fit in {width} x {height} pixels, aspect kept; of an animation the first frame"
        if self.tiles.size is not None:
            about += f"; larger ones than {self.tiles.size[1]} x {self.tiles.size[0]} in tiles"
        return (Input(name=self.image, kind="image", description=about, limit=MAX_PIXELS),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        names = self.labels.names
        about = "a PNG as large as the image, with a palette; a pixel is the number of its class, from 0: "
        shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
        listed = tuple(names) if len(names) <= LISTED else ()
        return (
            Output(name="mask", kind="mask", description=about + shown, choices=listed),
            Output(name="shares", kind="classes", description="share of the pixels of each class", choices=listed),
            *self.tiles.outputs,
        )

    def rows_of(self, columns: Columns) -> np.ndarray | None:
        if self.tiles.size is None:
            return None
        with reading(self.image):
            return np.array(
                [len(self.tiles.places(*dimensions(value), name_of(value))) for value in column(columns, self.image)],
                int,
            )

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (n, h, w, c), letterboxed."""
        height, width, channels = self.statistics.shape
        how = channels, self.statistics.background, self.statistics.white
        with reading(self.image):
            pixels = [(name_of(value), decode(value, None, *how)) for value in column(columns, self.image)]
            parts = [
                part
                for of, whole in pixels
                for part in cut(whole, self.tiles.places(whole.shape[0], whole.shape[1], of))
            ]
        canvases = [letterboxed(part, (height, width)) for part in parts]
        return {"image": np.stack(canvases) if canvases else np.zeros((0, height, width, channels), np.uint8)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """One answer a picture, of ``classes`` uint8 (n, h, w) on the canvas, and ``logits`` (n, h, w, c) where there
        are tiles."""
        size, begin, answers = self.statistics.shape[:2], 0, []
        classes = np.asarray(outputs["classes"])
        for value in column(columns, self.image):
            stored = dimensions(value)
            places = self.tiles.places(*stored)
            rows = slice(begin, begin := begin + len(places))
            if len(places) == 1:
                mask = stored_mask(classes[begin - 1].astype(np.uint8), placement(stored, size))
            else:
                mask = blended(np.asarray(outputs["logits"])[rows], places)
            answer = self._answer(mask)
            answers.append(answer if self.tiles.size is None else {**answer, "tiles": len(places)})
        return answers

    def _answer(self, mask: np.ndarray) -> dict[str, Any]:
        names = self.labels.names
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        order = np.argsort(-shares, kind="stable")
        return {
            "mask": File("image/png", png(mask, palette(len(names)))),
            "shares": {names[k]: round(float(shares[k]), 6) for k in order if shares[k] > 0},
        }
