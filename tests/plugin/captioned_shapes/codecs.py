"""Codecs: a picture and a caption in, a probability and the best picture out; and a picture in, its vector out."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, File, Input, Output
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.image import PixelStatistics, decode_batch

LONGEST = 24
"""Characters of a caption that are read."""


@dataclass(frozen=True, kw_only=True)
class PictureVector(Codec):
    """Picture in, unit vector out."""

    image: str
    """Name of the input."""
    statistics: PixelStatistics
    """Shape of the pictures."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name=self.image, kind="image", description="the picture"),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="vector", kind="vector", description="the picture's place among captions"),)

    def encode(self, columns: Columns) -> dict[str, Any]:
        height, width, channels = self.statistics.shape
        return {"image": decode_batch(columns[self.image], (height, width), channels)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"vector": [float(x) for x in vector]} for vector in outputs["vector"]]


@dataclass(frozen=True, kw_only=True)
class PictureOfCaption(Codec):
    """Picture and caption in; the probability that they belong together, and the catalogue's best picture, out."""

    pictures: PictureVector
    """The picture's side."""
    caption: str
    """Name of the text."""
    tokenizer: Characters
    """Characters of captions."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        text = Input(name=self.caption, kind="text", description="the caption", example="a red square", limit=LONGEST)
        return (*self.pictures.inputs, text)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (
            Output(name="match", kind="number", description="that the caption is the picture's", low=0, high=1),
            Output(name="best", kind="image", description="the picture that fits the caption best"),
        )

    @property
    def longest(self) -> int:
        return LONGEST

    def encode(self, columns: Columns) -> dict[str, Any]:
        return {**self.pictures.encode(columns), "tokens": self.tokenizer.encode(columns[self.caption], LONGEST)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        pairs = zip(outputs["match"], outputs["best"], strict=True)
        return [{"match": float(match), "best": File("image/png", _png(picture))} for match, picture in pairs]


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()
