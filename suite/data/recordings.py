"""Recordings as samples, or as features that were computed before: reading, resampling, and the limits of both.

A recording is a path, the bytes of a file, or samples (n,); where features were computed before, they stand in its
place as (t, f). Dims: n samples, t frames, f features.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.batch import Ragged
from suite.data.reading import AUDIO
from suite.distribution import missing
from suite.errors import InputError

MAX_SAMPLES = 1 << 26
"""Recordings of more samples, over all channels, are refused before they are unpacked."""


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise missing("soundfile", "to read recordings", "speech") from error
    return soundfile


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """How recordings are read."""

    rate: int
    """Samples a second."""
    hop: int
    """Samples from one frame to the next, where features stand in the place of samples."""
    features: int = 0
    """Features a frame, where they do. 0: recordings are samples."""
    longest: float = 30.0
    """Seconds of the longest one."""

    @property
    def room(self) -> int:
        """Samples, or frames, of the longest one."""
        return int(self.longest * self.rate / (self.hop if self.features else 1))

    def encode(self, values: Sequence[Any]) -> Ragged:
        """float32 rows of samples, or of features that were stored.

        Raises:
            InputError: a recording that cannot be decoded, or lasts longer than ``longest``.
        """
        return joined([self._row(value) for value in values])

    def _row(self, value: Any) -> np.ndarray:
        row = decode(value, self.rate, self.longest)
        _check_length(value, len(row) * (self.hop if row.ndim == 2 else 1) / self.rate, self.longest)
        return row


def joined(rows: list[np.ndarray]) -> Ragged:
    """Recordings end to end.

    Raises:
        InputError: some are samples, others features, or features of other sizes.
    """
    sizes = {row.shape[1:] for row in rows}
    if len(sizes) > 1:
        forms = ", ".join(sorted("samples" if not size else f"{size[0]} features" for size in sizes))
        raise InputError("recordings", "they are not all samples, or features of one size", found=forms)
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged(np.concatenate(rows) if rows else np.zeros(0, np.float32), lengths)


def decode(value: Any, rate: int, longest: float = math.inf) -> np.ndarray:
    """One recording as float32 samples (n,) in -1..1 at ``rate`` a second, or its features (t, f) as they are.

    Channels are averaged. Resampling is soxr's, of high quality.

    Raises:
        InputError: not a recording, damaged, without samples, longer than ``longest`` seconds, of more than
            MAX_SAMPLES, or an array of another type or shape.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value)
    soundfile, name = _soundfile(), name_of(value)
    try:
        with soundfile.SoundFile(_opened(value)) as file:
            _check_length(value, file.frames / file.samplerate, longest)
            if file.frames * file.channels > MAX_SAMPLES:
                extent = f"{file.frames:,} in {file.channels} channels"
                raise InputError(name, f"this recording has more than {MAX_SAMPLES:,} samples", found=extent)
            samples, original = file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise _undecodable(value, error) from error
    if not len(samples):
        raise InputError(name, "this recording holds no samples", fix="replace or remove the file")
    samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)
    return samples if original == rate else resample(samples, original / rate)


def _check_length(value: Any, lasts: float, longest: float) -> None:
    if lasts > longest:
        raise InputError(
            name_of(value),
            f"this recording lasts {lasts:.1f} s, longer than the model takes.",
            found=f"limit {longest:g} s",
            fix="cut it, or train with a larger --task.max_seconds",
        )


def resample(samples: np.ndarray, ratio: float) -> np.ndarray:
    """Samples (n,) at a rate ``ratio`` times lower: about n / ratio of them."""
    try:
        import soxr
    except ImportError as error:
        raise missing("soxr", "to change sample rates", "speech") from error
    return np.ascontiguousarray(soxr.resample(samples, ratio, 1.0, quality="HQ"), np.float32)


def _from_array(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.int16 and value.ndim == 1:
        return value.astype(np.float32) / 2**15
    if value.dtype.kind != "f" or value.ndim not in (1, 2) or not len(value):
        shape = f"{value.dtype} {value.shape}"
        raise InputError("recording", "must be float or int16 samples (n,), or float features (t, f)", found=shape)
    return value.astype(np.float32)


def _opened(value: Any) -> Any:
    return io.BytesIO(value) if isinstance(value, bytes) else str(value)


def name_of(value: Any) -> str:
    """What an error calls a recording."""
    return str(value) if isinstance(value, str | Path) else "recording"


def _undecodable(value: Any, error: Exception) -> InputError:
    if isinstance(value, str | Path) and not Path(value).exists():
        return InputError(name_of(value), "no such recording")
    fix = f"replace or remove the file; {' '.join(AUDIO)} are read"
    reason = str(error).rsplit("> : ", 1)[-1].rsplit(": ", 1)[-1]
    return InputError(name_of(value), "this recording cannot be decoded", found=reason, fix=fix)


def seconds(value: Any, rate: int, hop: int) -> float:
    """How long a recording lasts, from its header alone.

    Raises:
        InputError: it cannot be decoded, or there is none.
    """
    if isinstance(value, np.ndarray):
        return len(value) * (hop if value.ndim == 2 else 1) / rate
    soundfile = _soundfile()
    try:
        about = soundfile.info(_opened(value))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _undecodable(value, error) from error
    return about.frames / about.samplerate
