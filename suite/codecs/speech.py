"""Codec of speech that is made: a text in, with a voice, a speed and a pitch; a recording as a file out."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import column, option_input, option_numbers, request_classes, told
from suite.codecs.columns import texts as spoken_texts
from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds
from suite.contracts.codec import Codec, File, Input, Output
from suite.data.preprocessing.speakers import Speakers
from suite.data.preprocessing.spelling import Spelling
from suite.data.recordings import MAX_RATE, wav
from suite.errors import InputError

SPEED, PITCH = "speed", "pitch"
SLOWEST, FASTEST = 0.5, 2.0
"""Speeds that may be asked for; 1 is that of the recordings."""
SEMITONES = 12.0
"""By how much a voice may be raised or lowered."""


@dataclass(frozen=True, kw_only=True)
class SpokenTexts(Codec):
    """Texts are spoken, sentence after sentence."""

    number_bounds: ClassVar[Bounds] = {"rate": (1, MAX_RATE), "hop": (1, MAX_RATE), "max_symbols": (1, 100_000)}

    text: str
    """Name of the input that is spoken."""
    spelling: Spelling
    """Symbols of texts."""
    max_symbols: int
    """Most symbols of a text as it is spoken."""
    rate: int
    """Samples a second of what is made."""
    hop: int
    """Samples from one frame to the next."""
    speaker: str = ""
    """Name of the input that names a voice. Empty: there is one."""
    speakers: Speakers
    """Voices that can be named."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        of_phones = self.spelling.unit == "phones"
        written = 4 if of_phones else 1  # characters of a symbol
        about = "phones between blanks, _ being a pause" if of_phones else "what is to be said"
        example = " ".join(self.spelling.symbols[:4]) if of_phones else "Hello."
        names = tuple(self.speakers.names)
        voice = Input(
            name=self.speaker,
            kind="category",
            description="whose voice",
            choices=names[:100],
            example=names[0] if names else "",
        )
        return (
            Input(name=self.text, kind="text", description=about, example=example, limit=self.max_symbols * written),
            *((voice,) if self.speaker else ()),
            *self.options,
        )

    @property
    def options(self) -> tuple[Input, Input]:
        """How fast, and how high."""
        faster = f"how fast, from {SLOWEST:g} to {FASTEST:g}; without, 1"
        higher = f"how much higher the voice is, in semitones from -{SEMITONES:g} to {SEMITONES:g}; without, 0"
        return (
            option_input(SPEED, faster, SLOWEST, FASTEST, 1.0),
            option_input(PITCH, higher, -SEMITONES, SEMITONES, 0.0),
        )

    @property
    def longest(self) -> int:
        return self.max_symbols

    @property
    def outputs(self) -> tuple[Output, ...]:
        left = "what of the text is not spoken, and how often it stands there"
        return (
            Output(name="audio", kind="audio", description="the text, spoken", media_types=("audio/wav",)),
            Output(name="left_out", kind="text", description=left, empty="All of the text is spoken."),
        )

    @property
    def purpose(self) -> str:
        return "Speaks texts"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``symbols`` int32 Ragged; ``speed`` and ``semitones`` float32 (b,); with voices ``speaker`` int32 (b,).

        Raises:
            InputError: a text of nothing that is spoken, or of more than ``max_symbols``; a number out of its range.
        """
        texts = spoken_texts(columns, self.text)
        for value in columns[self.text]:
            if isinstance(value, list | tuple | dict):
                raise InputError(f'input "{self.text}"', "must be a text.", found=told(value), fix="one text a record")
        symbols, _ = self.spelling.encode(texts)
        for text, length in zip(texts, symbols.lengths.tolist(), strict=True):
            if length < 2:
                known = " ".join(self.spelling.symbols[:60])
                problem = "holds nothing that this model can speak."
                raise InputError(f'input "{self.text}"', problem, found=f"{text!r:.60}", fix=f"a text of {known}")
            if length > self.max_symbols:
                raise InputError(
                    f'input "{self.text}"',
                    f"has more than {self.max_symbols:,} symbols as it is spoken.",
                    found=f"{length:,}, from {text!r:.60}",
                    fix=f"send it in parts, or train with --task.max_symbols {shlex.quote(str(length))}",
                )
        speed, semitones = (option_numbers(columns, option, len(texts)) for option in self.options)
        encoded: dict[str, Any] = {"symbols": symbols, "speed": speed, "semitones": semitones}
        if self.speaker:
            encoded["speaker"] = request_classes(self.speakers, self.speaker, column(columns, self.speaker))
        return encoded

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """A WAV of each text. What training had no symbol for, and an end that was longer than there was room for, is
        said in ``left_out``."""
        _, missing = self.spelling.encode(column(columns, self.text))
        rows = zip(*(np.asarray(outputs[name]) for name in ("samples", "lengths", "wanted")), missing, strict=True)
        return [
            {
                "audio": File("audio/wav", wav(samples[:length], self.rate)),
                "left_out": _left_out(unknown, (int(wanted) - int(length)) / self.rate),
            }
            for samples, length, wanted, unknown in rows
        ]


def _left_out(unknown: Counter[str], seconds: float) -> str:
    parts = [f'"{symbol}" {count:,}' for symbol, count in unknown.most_common()]
    if seconds > 0:
        parts.append(f"the last {seconds:.1f} s, for which there is no room")
    return ", ".join(parts)
