"""Codecs of vectors: what a text or an image is to an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.columns import CHARACTERS, texts
from suite.codecs.image import ImageInput
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Tokenizer


def vector_answers(vectors: np.ndarray) -> list[dict[str, Any]]:
    """``{"vector": [...]}`` for each row of ``vectors`` (b, d): the float32 numbers, exactly."""
    return [{"vector": row} for row in np.asarray(vectors, np.float64).tolist()]


def vector_output(of: str) -> tuple[Output, ...]:
    """The output that `vector_answers` makes."""
    about = f"the {of} as a vector; similar {of}s have vectors of a large cosine"
    return (Output(name="vector", kind="vector", description=about),)


@dataclass(frozen=True, kw_only=True)
class TextVectors(Codec):
    """Texts are cleaned, cut into pieces, and become vectors."""

    text: str
    """Name of the input."""
    tokenizer: Tokenizer
    """Pieces."""
    max_length: int
    """Tokens a text is cut at."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (
            Input(
                name=self.text,
                kind="text",
                description=f"a text; its first {self.max_length} tokens are read",
                example="A man is walking along the street.",
                limit=CHARACTERS * self.max_length,
            ),
        )

    @property
    def longest(self) -> int:
        return self.max_length

    @property
    def outputs(self) -> tuple[Output, ...]:
        return vector_output("text")

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``tokens`` int32 Ragged."""
        return {"tokens": self.tokens(texts(columns, self.text))}

    def tokens(self, written: Sequence[str]) -> Ragged:
        """Ids of each text."""
        return self.tokenizer.encode([clean(text) for text in written], self.max_length)

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
