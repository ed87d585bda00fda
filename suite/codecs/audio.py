"""Codecs of recordings: classes, what is said, and waveforms made anew.

Dims: b recordings, n samples, t frames, v symbols.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from suite.codecs.classes import Classes
from suite.codecs.columns import column, option_input, option_numbers, reading, request_classes
from suite.codecs.grid_units import sound_divisions
from suite.codecs.vectors import vector_answers, vector_output
from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds
from suite.contracts.codec import Codec, File, Input, Output
from suite.contracts.division import Division
from suite.data.preprocessing.speakers import Speakers
from suite.data.preprocessing.transcripts import Transcriber
from suite.data.recordings import Recordings, wav
from suite.decoding.ctc import Decoder
from suite.decoding.ngrams import NGrams, Vocabulary


def recording_input(name: str, recordings: Recordings) -> Input:
    """The input that is a recording."""
    about = f"a recording of at most {recordings.longest:g} seconds"
    if recordings.features:
        about += f", as {recordings.features} features a frame"
    return Input(name=name, kind="audio", description=about, limit=recordings.longest)


@dataclass(frozen=True, kw_only=True)
class AudioInput(Codec):
    """The asking end of a codec: recordings."""

    audio: str
    """Name of the input."""
    recordings: Recordings
    """How they are read."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (recording_input(self.audio, self.recordings),)

    @property
    def longest(self) -> int:
        return self.recordings.room

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``audio`` float32 Ragged."""
        with reading(self.audio):
            return {"audio": self.recordings.encode(column(columns, self.audio))}

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        return sound_divisions(self.audio, rows["audio"].lengths.tolist(), self.recordings, "audio")


@dataclass(frozen=True, kw_only=True)
class AudioClasses(AudioInput, Classes):
    """Recordings are put into classes."""


@dataclass(frozen=True, kw_only=True)
class AudioVectors(AudioInput):
    """Recordings become vectors."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        return vector_output("recording")

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return vector_answers(outputs["vector"])


@dataclass(frozen=True, kw_only=True)
class Transcripts(AudioInput):
    """Recordings are written down."""

    transcriber: Transcriber
    """Symbols."""
    decoder: Decoder
    """How transcripts are found."""
    language_model: NGrams | None = None
    """Words that the decoder expects."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="text", kind="text", description="what is said", empty="Nothing was heard."),)

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {"log_probs": self.transcriber.units}

    @property
    def purpose(self) -> str:
        return "Writes down what is said"

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


HOTTEST = 2.0
"""Largest temperature that samples are drawn with."""


@dataclass(frozen=True, kw_only=True)
class Waveforms(Codec):
    """Recordings, or their mel bands, are made anew sample by sample."""

    number_bounds: ClassVar[Bounds] = {"temperature": (0.0, HOTTEST)}

    audio: str
    """Name of the input."""
    recordings: Recordings
    """How they are read, and the rate of what is made."""
    speaker: str = ""
    """Name of the input that names a voice. Empty: there is none."""
    speakers: Speakers
    """Voices that can be named."""
    temperature: float = 1.0
    """Of a request that names none."""
    drawn: bool = True
    """Whether samples are drawn, so that a request may name a temperature."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        names = tuple(self.speakers.names)
        voice = Input(
            name=self.speaker,
            kind="category",
            description="whose voice",
            choices=names,
            example=names[0] if names else "",
        )
        return (
            recording_input(self.audio, self.recordings),
            *((voice,) if self.speaker else ()),
            *((_warmth(self.temperature),) if self.drawn else ()),
        )

    @property
    def longest(self) -> int:
        return self.recordings.room

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="audio", kind="audio", description="the recording, made anew", media_types=("audio/wav",)),)

    @property
    def purpose(self) -> str:
        return "Makes recordings anew from their mel bands"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``audio`` float32 Ragged of samples, or of mel bands; where samples are drawn, ``temperature`` float32 (b,);
        where voices are named, ``speaker`` int32 (b,)."""
        with reading(self.audio):
            audio = self.recordings.encode(column(columns, self.audio))
        # Mel bands run on a scale of their own, so that they are not padded to as many places as samples.
        encoded: dict[str, Any] = {"audio": audio if audio.values.ndim == 1 else replace(audio, axis="frames")}
        if self.drawn:
            warmth = _warmth(self.temperature)
            encoded["temperature"] = option_numbers(columns, warmth, len(audio.lengths))
        if self.speaker:
            encoded["speaker"] = request_classes(self.speakers, self.speaker, column(columns, self.speaker))
        return encoded

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        rows = zip(np.asarray(outputs["samples"]), np.asarray(outputs["lengths"]), strict=True)
        return [{"audio": File("audio/wav", wav(row[:length], self.recordings.rate))} for row, length in rows]


def _warmth(default: float) -> Input:
    about = f"0 takes the likeliest sample, 1 draws as the model says, at most {HOTTEST:g}; without, {default:g}"
    return option_input("temperature", about, 0, HOTTEST, default)
