"""Recordings in training: which can be used, and random changes to their samples.

How a recording is read is in `suite.data.recordings`, and how it becomes features in `suite.tasks.audio_features`.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Data, Source
from suite.data.notes import told
from suite.data.preprocessing.columns import file_names, origin, require
from suite.data.reading import AUDIO
from suite.data.recordings import Timing, decode, examine, joined, resample, timing
from suite.data.sources.memory import Subset, cleaned
from suite.errors import InputError


def require_audio(source: Source, fields: Mapping[str, str], data: Data) -> None:
    """Every column named by ``fields`` is in the source, or InputError; says why TFDS gives no recordings."""
    name = fields["audio"]
    if name not in source.schema and type(data).__name__ == "Tfds":
        raise InputError(
            "field task.audio",
            f'the recordings "{name}" of {origin(data)} are not read.',
            found="TFDS decodes its Audio feature by TensorFlow, which is not loaded here",
            fix="write them as wav files with a manifest.jsonl, and --data manifest.jsonl",
        )
    require(source, fields, origin(data))


def without_unusable(source: Source, name: str, rate: int, hop: int, longest: float) -> Source:
    """The records whose recording can be used, as by `suite.data.recordings.examine`; the others are dropped, counted
    and named.

    Where the records have columns ``offset`` and ``duration``, in seconds, each is that piece of its recording.

    Args:
        source: with a column of recordings.
        name: of that column.
        rate: samples a second of the model.
        hop: samples that a frame lasts, where recordings are stored as features.
        longest: seconds of the longest recording that is taken.
    """
    source = _with_pieces(source, name)
    faults: dict[str, np.ndarray] = {}
    for start in range(0, len(source), 1024):
        chunk = np.arange(start, min(start + 1024, len(source)))
        for place, value in zip(chunk.tolist(), source.column(name, chunk), strict=True):
            if reason := examine(value, rate, hop, longest):
                faults.setdefault(reason, np.zeros(len(source), bool))[place] = True
    usable = cleaned(source, faults, file_names(source, name))
    if not len(usable):
        reasons, absent = "; ".join(told(usable.dropped, usable.dropped_names)), set(faults) == {"no such recording"}
        raise InputError(f"column {name}", "no recording can be used.", found=reasons, fix=_ABSENT if absent else _FIX)
    return usable


_FIX = "check the paths, or raise --task.max_seconds"
_ABSENT = "check the paths: they are relative to the table, or to where the command runs"


class _Pieces(Subset):
    """Records whose column of paths names pieces of recordings, by columns of seconds."""

    def __init__(self, source: Source, name: str, timed: Timing):
        super().__init__(source, np.arange(len(source)))
        self._name, self._timed = name, timed

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {**super().__getitem__(indices), self._name: self.column(self._name, indices)}

    def column(self, name: str, indices: np.ndarray) -> Any:
        values = super().column(name, indices)
        if name != self._name:
            return values
        return self._timed.pieces(
            values, {key: list(super(_Pieces, self).column(key, indices)) for key in self._timed.names}
        )


def _with_pieces(source: Source, name: str) -> Source:
    first = source.column(name, np.arange(min(1, len(source))))
    timed = timing(source.schema, [key for key, kind in source.schema.items() if kind in ("int", "float")])
    return _Pieces(source, name, timed) if timed.names and len(first) and isinstance(first[0], str) else source


class Perturbation(ABC):
    """A random change to the samples of one training recording."""

    @property
    def stretch(self) -> float:
        """How much longer it can make a recording."""
        return 1.0

    @abstractmethod
    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """float32 (n,) -> float32 (m,)."""


@dataclass(frozen=True, kw_only=True)
class Speed(Perturbation):
    """Plays the recording faster or slower, pitch included (Ko et al., Interspeech 2015)."""

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Speeds to draw from, each as often."""

    @property
    def stretch(self) -> float:
        return 1 / min(*self.factors, 1.0)

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        factor = float(rng.choice(self.factors))
        return samples if factor == 1 else resample(samples, factor)


@dataclass(frozen=True, kw_only=True)
class Noise(Perturbation):
    """Adds noise: white, or a stretch of a recording from a folder, at a random ratio to the recording's power."""

    decibels: tuple[float, float] = (10.0, 40.0)
    """Least and greatest ratio of signal to noise."""
    share: float = 1.0
    """Share of the recordings that get any."""
    folder: str = ""
    """Folder of recordings of noise. Empty: white noise."""

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.share:
            return samples
        noise = self._noise(len(samples), rate, rng)
        power, own = np.mean(np.square(noise)), np.mean(np.square(samples))
        scale = np.sqrt(own / max(power, 1e-20)) * 10 ** (-rng.uniform(*self.decibels) / 20)
        return samples + (scale * noise).astype(np.float32)

    def _noise(self, size: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        if not self.folder:
            return rng.standard_normal(size, np.float32)
        files = _recordings(self.folder)
        noise = decode(files[rng.integers(len(files))], rate)
        return np.resize(np.roll(noise, -int(rng.integers(len(noise)))), size)


def perturbed(
    audio: Ragged, changes: Sequence[Perturbation], rate: int, rng: np.random.Generator | None
) -> dict[str, Ragged]:
    """``audio``: the recordings, samples changed by ``changes`` in order where ``rng`` is given, features as they are.

    Without ``rng``, ``room`` is as long as ``changes`` could make each row: so the buckets hold it in training.
    """
    if audio.values.ndim > 1 or not changes:
        return {"audio": audio}
    if rng is not None:
        rows = np.split(audio.values, np.cumsum(audio.lengths)[:-1]) if len(audio.lengths) else []
        for change in changes:
            rows = [change(row, rate, rng) for row in rows]
        heard = joined(rows)
        return {"audio": replace(audio, values=heard.values, lengths=heard.lengths)}
    stretch = float(np.prod([change.stretch for change in changes]))
    if stretch <= 1:
        return {"audio": audio}
    lengths = np.ceil(audio.lengths * stretch).astype(np.int64) + 1
    return {"audio": audio, "room": replace(audio, values=np.zeros((int(lengths.sum()), 0), np.uint8), lengths=lengths)}


@functools.lru_cache(maxsize=8)
def _recordings(folder: str) -> list[str]:
    files = sorted(str(file) for file in Path(folder).expanduser().rglob("*") if file.suffix.lower() in AUDIO)
    if not files:
        raise InputError(folder, "no recording in this folder", fix=f"use a folder with {' '.join(AUDIO)} files")
    return files
