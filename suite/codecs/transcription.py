"""Codec of recordings that are written down token by token: text, language, and segments with their times.

Dims: b recordings, w windows of a recording, n tokens of a window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.audio import recording_input
from suite.codecs.columns import column, optional, reading, told
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.speech_tokens import ACTIONS, SpeechTokens
from suite.data.recordings import Recordings
from suite.errors import InputError

LANGUAGE, TASK, TIMESTAMPS = "language", "task", "timestamps"
_SAID = {"yes": 1, "true": 1, "1": 1, "1.0": 1, "no": 0, "false": 0, "0": 0, "0.0": 0}
_FRAMES = 2
"""Frames from one timestamp to the next."""


@dataclass(frozen=True)
class Segment:
    """What is said between two times of a window.

    Attributes:
        start, end: frames from the start of the window.
        tokens: ids, those of timestamps among them.
    """

    start: int
    end: int
    tokens: list[int]


@dataclass(frozen=True, kw_only=True)
class SpokenText(Codec):
    """Recordings are written down in their language or in English, window by window."""

    examples: ClassVar[dict[str, str]] = {LANGUAGE: "en", TASK: ACTIONS[0], TIMESTAMPS: "no"}

    audio: str
    """Name of the input."""
    recordings: Recordings
    """How they are read."""
    tokens: SpeechTokens
    """Pieces of text and special tokens."""
    language: str = ""
    """Code of the language of a request that names none. Empty: it is heard."""
    action: str = ACTIONS[0]
    """What is done for a request that doesn't say it."""
    timestamps: bool = False
    """Whether segments have times in the answer to a request that doesn't say it."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        special = self.tokens.special
        inputs = [recording_input(self.audio, self.recordings)]
        if special.languages:
            codes = tuple(special.languages)[:100]
            without = self.language or "it is heard"
            about = f"code of the language that is spoken; without, {without}"
            example = "en" if "en" in codes else codes[0]
            inputs.append(self._option(LANGUAGE, about, codes, example, self.language or "as it is heard"))
        if special.actions:
            about = f"transcribe: in the language that is spoken; translate: in English; without, {self.action}"
            inputs.append(self._option(TASK, about, tuple(special.actions), self.action, self.action))
        if special.begin:
            usual = "yes" if self.timestamps else "no"
            about = f"whether the answer has segments with their times; without, {usual}"
            inputs.append(self._option(TIMESTAMPS, about, ("no", "yes"), usual, usual))
        return tuple(inputs)

    @staticmethod
    def _option(name: str, about: str, choices: tuple[str, ...], example: str, absent: str) -> Input:
        return Input(
            name=name,
            kind="category",
            required=False,
            option=True,
            description=about,
            choices=choices,
            example=example,
            absent=absent,
        )

    @property
    def longest(self) -> int:
        return self.recordings.room

    @property
    def outputs(self) -> tuple[Output, ...]:
        special = self.tokens.special
        outputs = [Output(name="text", kind="text", description="what is said", empty="Nothing was heard.")]
        if special.languages:
            outputs.append(Output(name="language", kind="text", description="language that is spoken"))
        if special.begin:
            about = "what is said from when to when, in seconds"
            outputs.append(Output(name="segments", kind="segments", description=about))
        if special.silence >= 0:
            about = "probability that nothing is spoken, in the window where it is least"
            outputs.append(Output(name="no_speech", kind="number", description=about, low=0))
        return tuple(outputs)

    @property
    def purpose(self) -> str:
        return "Writes down what is said"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``audio`` float32 Ragged; int32 (b,): ``language``, its token or -1 where it is to be heard, ``action``, the
        token of what is to be done or -1 where the model does one thing, ``timed``, 1 where times are wanted."""
        with reading(self.audio):
            audio = self.recordings.encode(column(columns, self.audio))
        rows = len(audio.lengths)
        languages, actions, timed = (optional(columns, name, rows) for name in (LANGUAGE, TASK, TIMESTAMPS))
        default = self.tokens.language(self.language)
        said = [self.tokens.language(value) for value in languages]
        return {
            "audio": audio,
            "language": np.array([default if token < 0 else token for token in said], np.int32),
            "action": np.array([self.tokens.action(value, self.action) for value in actions], np.int32),
            "timed": np.array([self._timed(value) for value in timed], np.int32),
        }

    def _timed(self, value: Any) -> int:
        if value is None:
            return int(self.timestamps)
        asked = str(value).strip().lower()
        if asked not in _SAID:
            raise InputError(
                f'input "{TIMESTAMPS}"', "must be yes or no.", found=told(value), fix=f'"{TIMESTAMPS}": "yes"'
            )
        if _SAID[asked] and not self.tokens.special.begin:
            problem = "are none that this model can say: it has learnt no times."
            raise InputError(f'input "{TIMESTAMPS}"', problem, fix=f'leave "{TIMESTAMPS}" out')
        return _SAID[asked]

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        made = {name: np.asarray(value) for name, value in outputs.items()}
        return [self._answer({name: value[row] for name, value in made.items()}) for row in range(len(made["windows"]))]

    def _answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The answer to one recording, whose outputs are ``row``."""
        special, frame = self.tokens.special, self.recordings.hop / self.recordings.rate
        seconds = float(row["seconds"])
        pieces: list[int] = []
        listed: list[dict[str, Any]] = []
        for window in range(int(row["windows"])):
            start, length, whole = (int(row[name][window]) for name in ("starts", "lengths", "whole"))
            ids = _before_end(row["tokens"][window].tolist(), special.end)
            kept = bool(row["kept"][window])
            for segment in segments(ids, length, bool(whole), special.begin) if kept else [Segment(0, length, [])]:
                spoken = [token for token in segment.tokens if token < special.end]
                pieces += spoken
                times = [round(min((start + place) * frame, seconds), 2) for place in (segment.start, segment.end)]
                said = {"text": self.tokens.decode([spoken])[0].strip() if spoken else ""}
                if spoken or not kept:
                    silent = {"no_speech": _rounded(row["no_speech"][window])} if special.silence >= 0 else {}
                    listed.append({"start": times[0], "end": times[1], **said, **silent})
        answer: dict[str, Any] = {"text": self.tokens.decode([pieces])[0].strip() if pieces else ""}
        if special.languages:
            token = int(row["language"])
            answer["language"] = next((code for code, known in special.languages.items() if known == token), "")
        if special.begin:
            answer["segments"] = listed if int(row["timed"]) else []
        if special.silence >= 0:
            answer["no_speech"] = _rounded(row["no_speech"][: int(row["windows"])].min(initial=1.0))
        return answer


def segments(tokens: Sequence[int], length: int, whole: bool, begin: int) -> list[Segment]:
    """The segments of a window as Whisper has them: parted where two timestamps stand side by side. Times may pass the
    end of the window, since nothing keeps the model from saying such.

    Args:
        tokens: of the window, without the end.
        length: frames of the window.
        whole: whether the next window begins behind this one; otherwise what is behind the last pair of timestamps is
            heard again, and left out here.
        begin: first timestamp; 0: there are none.
    """
    ids = list(tokens)
    stamps = [begin > 0 and token >= begin for token in ids]
    parts = [place + 1 for place in range(len(ids) - 1) if stamps[place] and stamps[place + 1]]
    if not parts:
        last = next((token - begin for token, stamp in zip(ids[::-1], stamps[::-1], strict=True) if stamp), 0)
        return [Segment(0, last * _FRAMES if last > 0 else length, ids)]
    if whole and not all(stamps[parts[-1] :]):
        parts.append(len(ids))
    made = []
    for first, behind in zip([0, *parts], parts, strict=False):
        part = ids[first:behind]
        ends = (part[-1] - begin) * _FRAMES if part[-1] >= begin and len(part) > 1 else length
        made.append(Segment((part[0] - begin) * _FRAMES if part[0] >= begin else 0, ends, part))
    return made


def _before_end(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


def _rounded(share: Any) -> float:
    return round(float(np.clip(share, 0, 1)), 6)
