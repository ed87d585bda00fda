"""Codecs of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.codecs.classes import Classes
from suite.codecs.columns import column, reading
from suite.codecs.grid_units import picture_divisions
from suite.codecs.prediction import Predictions
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input
from suite.contracts.division import Division
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode_batch


@dataclass(frozen=True, kw_only=True)
class ImageInput(Codec):
    """The asking end of a codec: images, scaled to one size."""

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Size and channels."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, channels = self.statistics.shape
        kind = {1: "grey", 3: "colour", 4: "colour with transparency"}[channels]
        about = f"an image, scaled to {width} x {height} pixels, {kind}; of an animation the first frame"
        return (Input(name=self.image, kind="image", description=about, limit=MAX_PIXELS),)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c)."""
        height, width, channels = self.statistics.shape
        images = column(columns, self.image)
        statistics = self.statistics
        with reading(self.image):
            return {"image": decode_batch(images, (height, width), channels, statistics.background, statistics.white)}

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        height, width, _ = self.statistics.shape
        return picture_divisions(self.image, height, width, len(rows["image"]), "image")


@dataclass(frozen=True, kw_only=True)
class ImageClasses(ImageInput, Classes):
    """Images are put into classes."""


@dataclass(frozen=True, kw_only=True)
class ImagePredictions(ImageInput, Predictions):
    """A number, a class or labels are predicted of an image."""
