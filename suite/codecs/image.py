"""Codecs of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.answers import class_answers, class_outputs
from suite.codecs.columns import column
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.image import MAX_PIXELS, PixelStatistics, decode_batch
from suite.data.preprocessing.labels import Labels


@dataclass(frozen=True, kw_only=True)
class ImageClasses(Codec):
    """Images are scaled to one size and put into classes."""

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Size and channels."""
    labels: Labels
    """Class names."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        height, width, channels = self.statistics.shape
        kind = {1: "grey", 3: "colour", 4: "colour with transparency"}[channels]
        about = f"an image, scaled to {width} x {height} pixels, {kind}; of an animation the first frame"
        return (Input(name=self.image, kind="image", description=about, limit=MAX_PIXELS),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return class_outputs(self.labels.names)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c)."""
        height, width, channels = self.statistics.shape
        images = column(columns, self.image)
        return {"image": decode_batch(images, (height, width), channels, self.statistics.background)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return class_answers(outputs["logits"], self.labels.names)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return class_answers(outputs["logits"], self.labels.names, every=True)
