"""Recordings as statistics of their log-mel spectrogram. Dims: n samples, t frames, m bands."""

from typing import Any

import numpy as np

from suite.baselines.features import Feature, Values, column, register_feature, size
from suite.contracts.baseline import Rows
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Codec
from suite.contracts.signature import Input
from suite.data.reading import is_missing
from suite.data.recordings import Recordings, decode

RATE = 16_000
"""Samples a second where the codec doesn't say."""
BANDS = 40
WINDOW, HOP = 0.025, 0.01
"""Seconds of a frame, and from one frame to the next."""
PARTS = 5
"""Equal parts of a recording whose means are kept, so that order counts."""


class Sounds(Feature):
    """Of each band: mean, deviation, mean and deviation of its change from frame to frame, and the mean of each of
    `PARTS` parts of the recording."""

    form = "dense"

    def __init__(self, entry: Input, codec: Codec):
        super().__init__(entry, codec)
        stated = (value.rate for value in vars(codec).values() if isinstance(value, Recordings))
        self._rate = next(stated, RATE)

    def read(self, columns: Columns, rows: Rows) -> list[np.ndarray]:
        encoded = rows.get(self.name)
        if isinstance(encoded, Ragged) and encoded.values.dtype == np.float32:
            values: Values = np.split(encoded.values, np.cumsum(encoded.lengths)[:-1])
        else:
            values = [_decoded(value, self._rate) for value in column(columns, self.name, size(columns))]
        return [_statistics(value if value.ndim == 2 else log_mel(value, self._rate)) for value in values]

    def fit(self, values: Values) -> str:
        known = np.stack(values)
        self._mean, self._std = known.mean(0), known.std(0)
        self._std[self._std < 1e-6] = 1
        return f"{known.shape[1]} statistics of a log-mel spectrogram"

    def matrix(self, values: Values) -> np.ndarray:
        return (np.stack(values) - self._mean) / self._std


def _decoded(value: Any, rate: int) -> np.ndarray:
    return np.zeros(int(rate * WINDOW), np.float32) if is_missing(value) else decode(value, rate)


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Logarithm of the power in each band of the mel scale (t, m), a Hann window a frame."""
    width, hop = max(int(WINDOW * rate), 2), max(int(HOP * rate), 1)
    samples = np.pad(samples, (0, max(0, width - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, width)[::hop] * np.hanning(width)
    points = 1 << (width - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, points)) ** 2
    return np.log(power @ _bands(points, rate) + 1e-6)


def _bands(points: int, rate: int) -> np.ndarray:
    """Weights (frequencies, m) of triangular bands, evenly spaced on the mel scale."""
    frequencies = np.linspace(0, rate / 2, points // 2 + 1)
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def _statistics(frames: np.ndarray) -> np.ndarray:
    change = np.diff(frames, axis=0, prepend=frames[:1])
    parts = (
        [frames[int(place)] for place in np.linspace(0, len(frames) - 1, PARTS)]
        if len(frames) < PARTS
        else [part.mean(0) for part in np.array_split(frames, PARTS)]
    )
    whole = [frames.mean(0), frames.std(0), np.abs(change).mean(0), change.std(0)]
    return np.concatenate([*whole, *parts]).astype(np.float32)


register_feature("audio", Sounds)
