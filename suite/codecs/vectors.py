"""Codecs of vectors: what a text or an image is to an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.image import ImageInput
from suite.codecs.text import ReadText
from suite.contracts.batch import Columns
from suite.contracts.codec import Output


def vector_answers(vectors: np.ndarray) -> list[dict[str, Any]]:
    """``{"vector": [...]}`` for each row of ``vectors`` (b, d): the float32 numbers, exactly."""
    return [{"vector": row} for row in np.asarray(vectors, np.float64).tolist()]


def vector_output(of: str) -> tuple[Output, ...]:
    """The output that `vector_answers` makes."""
    about = f"the {of} as a vector; similar {of}s have vectors of a large cosine"
    return (Output(name="vector", kind="vector", description=about),)


@dataclass(frozen=True, kw_only=True)
class TextVectors(ReadText):
    """Texts become vectors."""

    example: ClassVar[str] = "A man is walking along the street."

    @property
    def outputs(self) -> tuple[Output, ...]:
        return vector_output("text")

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return vector_answers(outputs["vector"])


@dataclass(frozen=True, kw_only=True)
class ImageVectors(ImageInput):
    """Images become vectors."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        return vector_output("image")

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return vector_answers(outputs["vector"])
