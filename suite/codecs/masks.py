"""Codec of pictures whose pixels are put into classes. Dims: b pictures of h x w pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.columns import column
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, File, Input, Output
from suite.contracts.schemas import LISTED
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode
from suite.data.preprocessing.letterbox import letterboxed, placements
from suite.data.preprocessing.masks import MaskLabels, palette, png, stored_mask


@dataclass(frozen=True, kw_only=True)
class PictureMasks(Codec):
    """A model answers with a class for each pixel of a letterboxed picture; the answer's mask is as large as the one
    that was given."""

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Size and channels of the canvas."""
    labels: MaskLabels
    """Classes."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, _ = self.statistics.shape
        about = f"an image, scaled to fit in {width} x {height} pixels, aspect kept; of an animation the first frame"
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
        )

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), letterboxed."""
        height, width, channels = self.statistics.shape
        how = channels, self.statistics.background, self.statistics.white
        pixels = [decode(value, None, *how) for value in column(columns, self.image)]
        canvases = [letterboxed(picture, (height, width)) for picture in pixels]
        return {"image": np.stack(canvases) if canvases else np.zeros((0, height, width, channels), np.uint8)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """One answer a picture, of ``classes`` uint8 (b, h, w) on the canvas."""
        placed = placements(column(columns, self.image), self.statistics.shape[:2])
        return [self._answer(*row) for row in zip(np.asarray(outputs["classes"]), placed, strict=True)]

    def _answer(self, canvas: np.ndarray, placed: np.ndarray) -> dict[str, Any]:
        names = self.labels.names
        mask = stored_mask(canvas.astype(np.uint8), placed)
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        order = np.argsort(-shares, kind="stable")
        return {
            "mask": File("image/png", png(mask, palette(len(names)))),
            "shares": {names[k]: round(float(shares[k]), 6) for k in order if shares[k] > 0},
        }
