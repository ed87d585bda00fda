"""Codecs of recordings: classes, and what is said. Dims: b recordings, t frames, v symbols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.codecs.classes import Classes
from suite.codecs.columns import column
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.transcripts import Transcriber
from suite.data.recordings import Recordings
from suite.decoding.ctc import Decoder
from suite.decoding.ngrams import NGrams, Vocabulary


def _input(name: str, recordings: Recordings) -> Input:
    about = f"a recording of at most {recordings.longest:g} seconds"
    if recordings.features:
        about += f", as {recordings.features} features a frame"
    return Input(name=name, kind="audio", description=about, limit=recordings.longest)


@dataclass(frozen=True, kw_only=True)
class AudioClasses(Classes):
    """Recordings are put into classes."""

    audio: str
    """Name of the input."""
    recordings: Recordings
    """How they are read."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (_input(self.audio, self.recordings),)

    @property
    def longest(self) -> int:
        return self.recordings.room

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``audio`` float32 Ragged."""
        return {"audio": self.recordings.encode(column(columns, self.audio))}


@dataclass(frozen=True, kw_only=True)
class Transcripts(Codec):
    """Recordings are written down."""

    audio: str
    """Name of the input."""
    recordings: Recordings
    """How they are read."""
    transcriber: Transcriber
    """Symbols."""
    decoder: Decoder
    """How transcripts are found."""
    language_model: NGrams | None = None
    """Words that the decoder expects."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (_input(self.audio, self.recordings),)

    @property
    def longest(self) -> int:
        return self.recordings.room

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="text", kind="text", description="what is said", empty="Nothing was heard."),)

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {"log_probs": self.transcriber.units}

    @property
    def purpose(self) -> str:
        return "Writes down what is said"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``audio`` float32 Ragged."""
        return {"audio": self.recordings.encode(column(columns, self.audio))}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        texts = self.transcripts(np.asarray(outputs["log_probs"]), np.asarray(outputs["frames"]))
        return [{"text": text} for text in texts]

    def transcripts(self, log_probs: np.ndarray, frames: np.ndarray) -> list[str]:
        """What is said in each row.

        Args:
            log_probs: (b, t, v), natural logarithms.
            frames: (b,) frames of each row.
        """
        words: Vocabulary | None = None
        if self.language_model is not None:
            words = self.language_model.model(fold=self.transcriber.lowercase)
        rows = self.decoder(log_probs, frames, self.transcriber.units, words)
        return [self.transcriber.spell(row) for row in rows]
