"""Features of a voice: scaled mel bands, and the pitch of each frame with its mean and deviation.

Dims: n samples, t frames.
"""

import functools
import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.preprocessing.pitch import fundamental_frequency
from suite.data.reading import changed, present
from suite.data.recordings import decode
from suite.data.sources.memory import evenly_spaced
from suite.runtime import json_files
from suite.tasks.audio_features import AudioFeatures

HEARD = 200
"""Most recordings that mean and deviation of the pitch are learnt from."""
KEPT = 100_000
"""Recordings whose pitch is kept from one epoch to the next."""
LEVEL, MARGIN = 40.0, 0.05
"""Decibels below the loudest frame from which on a recording's ends are silence; and seconds of it that stay."""


@dataclass(frozen=True, kw_only=True)
class VoiceFeatures(AudioFeatures):
    """Mel bands and pitch of the recordings of a voice, or of several."""

    @property
    def pitch(self) -> tuple[float, float]:
        """Mean and deviation of the natural logarithm of Hz, over voiced frames of training."""
        return _pitch(self.file, changed(self.file))

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes mean and deviation of mel bands and of the pitch to ``path``. Raises InputError as `AudioFeatures`."""
        super().fit(source, column, path)
        values = present(source[evenly_spaced(source, HEARD)][column])
        rows = [pitch_of(decode(value, self.rate), self.rate, self.front_end.hop) for value in values]
        voiced = np.concatenate([row[row > 0] for row in rows]).astype(np.float64) if rows else np.zeros(0)
        about = [float(voiced.mean()), max(float(voiced.std()), 1e-3)] if len(voiced) else [float(np.log(120)), 1.0]
        path.write_text(json.dumps({**json.loads(path.read_text()), "pitch": [round(value, 6) for value in about]}))

    def sizes(self) -> dict[str, int]:
        """``bands``: mel bands."""
        return {"bands": len(self.mean)}


def pitch_of(samples: np.ndarray, rate: int, hop: int) -> np.ndarray:
    """Natural logarithm of the Hz of each frame (t,) float32, 0 where there is no voice; t = n // hop + 1."""
    digest = blake2b(np.ascontiguousarray(samples, np.float32).tobytes(), digest_size=16).digest()
    key = (digest, rate, hop)
    if key not in _heard:
        if len(_heard) >= KEPT:
            _heard.clear()
        hertz = fundamental_frequency(samples, rate, hop)
        _heard[key] = np.log(np.maximum(hertz, 1.0)).astype(np.float32)
    return _heard[key]


_heard: dict[tuple[bytes, int, int], np.ndarray] = {}
"""What has been computed: a recording is the same in each epoch, and finding its pitch costs more than a step."""


def without_silence(samples: np.ndarray, rate: int, hop: int) -> np.ndarray:
    """A recording without the silence at its ends, but for `MARGIN`; all of it where it is silent throughout."""
    frames = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
    power = np.square(frames).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0) * 10 ** (-LEVEL / 10))
    if not len(loud):
        return samples
    margin = round(MARGIN * rate)
    return samples[max(loud[0] * hop - margin, 0) : (loud[-1] + 1) * hop + margin]


@functools.lru_cache(maxsize=16)
def _pitch(file: str, written: int) -> tuple[float, float]:
    def build(content: Any) -> tuple[float, float]:
        mean, deviation = map(float, content["pitch"])
        return mean, deviation

    return json_files.load(file, build)
