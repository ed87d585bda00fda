"""Baseline of speech synthesis: the mean mel bands of each symbol between its neighbours, a third of it at a time.

Dims: b records, u symbols, t frames, f mel bands.
"""

from collections.abc import Iterator

import jax
import numpy as np

from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Columns, Ragged
from suite.evaluation.metrics.speech_quality import mel_distortion
from suite.nn.audio.griffin_lim import griffin_lim
from suite.nn.audio.spectral import LogMel

PARTS = 3
"""Parts of a symbol that have a mean each."""
Context = tuple[int, ...]
"""The symbol before, the symbol and the one behind; -1 where there is none, -2 where any counts."""


class SymbolMeans(Baseline):
    """Means of the training recordings, spoken by Griffin and Lim. A context that training does not have is replaced by
    a smaller one.

    Args:
        front_end: of the features.
        iterations: of Griffin and Lim.
    """

    def __init__(self, front_end: LogMel, iterations: int):
        self._front_end, self._iterations = front_end, iterations
        self._mels: dict[tuple[Context, int], np.ndarray] = {}
        self._lasts: dict[Context, np.ndarray] = {}
        self._features = jax.jit(front_end)

    def add(self, columns: Columns, rows: Rows) -> None:
        for mels, symbols, durations in self._records(rows):
            start = 0
            for place, count in enumerate(durations.tolist()):
                frames = mels[start : start + count]
                parts = _parts(count)
                for context in _contexts(symbols, place):
                    known = self._lasts.setdefault(context, np.zeros(2))
                    known += (count, 1)
                    for part in range(PARTS):
                        inside = frames[parts == part]
                        total = self._mels.setdefault((context, part), np.zeros(mels.shape[1] + 1))
                        total[:-1] += inside.sum(0)
                        total[-1] += len(inside)
                start += count

    def fit(self) -> str:
        return f"{len(self._lasts):,} contexts"

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        timed, spoken, given, own, apart = [], [], [], [], []
        for mels, symbols, durations in self._records(rows):
            lasts = [self._duration(symbols, place) for place in range(len(symbols))]
            counts = np.diff(np.round(np.cumsum(lasts)), prepend=0).astype(np.int64)
            timed.append(self._mel_bands(symbols, durations))
            apart.append(self._distortion(mels, timed[-1]))
            spoken.append(self._mel_bands(symbols, counts))
            given.append(durations)
            own.append(counts)
        return {
            "timed": self._samples(timed),
            "samples": self._samples(spoken),
            "lengths": np.array([max(len(row) - 1, 0) * self._front_end.hop for row in spoken], np.int32),
            "mel_mcd13": np.array(apart),
            "durations": _dense(given),
            "frames": _dense(own),
        }

    def _records(self, rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Mel bands (t, f), symbols (u,) and durations (u,) of each record."""
        audio, hop = rows["audio"], self._front_end.hop
        longest = _filled(int(audio.lengths.max(initial=1)))
        samples, mask = audio.padded(longest)
        split = lambda value: np.split(value.values, np.cumsum(value.lengths)[:-1])
        for row, real, symbols, durations in zip(
            samples, mask, split(rows["symbols"]), split(rows["durations"]), strict=True
        ):
            mels, frames = self._features(row.reshape(1, -1), np.repeat(real, hop)[None])
            yield np.asarray(mels[0], np.float64)[np.asarray(frames[0])], symbols, durations

    def _distortion(self, mels: np.ndarray, made: np.ndarray) -> float:
        count = min(len(mels), len(made))
        padded = np.zeros((2, 1, _filled(count), mels.shape[1]), np.float32)
        padded[:, 0, :count] = mels[:count], made[:count]
        real = np.arange(padded.shape[2])[None] < count
        return float(mel_distortion(self._front_end, padded[0], padded[1], real)[0])

    def _duration(self, symbols: np.ndarray, place: int) -> float:
        known = next((self._lasts[each] for each in _contexts(symbols, place) if each in self._lasts), np.ones(2))
        return float(known[0] / known[1])

    def _mel_bands(self, symbols: np.ndarray, durations: np.ndarray) -> np.ndarray:
        """(t, f) float32."""
        rows = []
        for place, count in enumerate(durations.tolist()):
            for part in _parts(count).tolist():
                contexts = [(each, part) for each in _contexts(symbols, place)]
                known = [self._mels[each] for each in contexts if each in self._mels and self._mels[each][-1]]
                rows.append(known[0][:-1] / known[0][-1] if known else np.zeros(self._front_end.bins))
        return np.array(rows, np.float32).reshape(-1, self._front_end.bins)

    def _samples(self, rows: list[np.ndarray]) -> np.ndarray:
        lengths = np.array([len(row) for row in rows], np.int64)
        longest = _filled(max(int(lengths.max(initial=1)), 2)) + 1
        mels, mask = Ragged(np.concatenate(rows), lengths).padded(longest)
        return np.asarray(griffin_lim(self._front_end, mels, mask, self._iterations))


def _contexts(symbols: np.ndarray, place: int) -> list[Context]:
    """The largest first."""
    before = int(symbols[place - 1]) if place else -1
    own = int(symbols[place])
    behind = int(symbols[place + 1]) if place + 1 < len(symbols) else -1
    return [(before, own, behind), (before, own, -2), (-2, own, behind), (-2, own, -2)]


def _filled(length: int) -> int:
    """A multiple of 64 frames, so that few shapes are compiled."""
    return -(-length // 64) * 64


def _parts(count: int) -> np.ndarray:
    """Which part each of so many frames belongs to."""
    return np.arange(count) * PARTS // max(count, 1)


def _dense(rows: list[np.ndarray]) -> np.ndarray:
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged(np.concatenate(rows).astype(np.int32), lengths).padded(int(lengths.max(initial=1)))[0]
