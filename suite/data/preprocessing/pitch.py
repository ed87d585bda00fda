"""Fundamental frequency of a recording, frame by frame, by autocorrelation.

`Boersma, 1993 <https://www.fon.hum.uva.nl/paul/papers/Proceedings_1993.pdf>`_, with the constants of Praat: the
autocorrelation of a window over that of the window function, whose highest peaks are candidates, and the path through
the candidates of all frames that jumps least. Peaks are interpolated by parabolas, not by sinc functions.

Dims: n samples, t frames, l lags, k candidates of a frame.
"""

import numpy as np

LOW, HIGH = 60.0, 500.0
"""Hz between which a voice is sought."""
PERIODS = 3
"""Periods of the lowest voice that a window holds."""
CANDIDATES = 6
"""Candidates of a frame; the first is to have no voice."""
_SILENCE, _VOICING = 0.03, 0.45
"""Level, as a share of the loudest, and height of a peak, below which a frame is rather unvoiced."""
_OCTAVE, _JUMP, _CHANGE = 0.01, 0.35, 0.14
"""Costs: of an octave below the highest voice, of an octave from frame to frame, and of a voice that begins or ends."""
_STEP = 0.01
"""Seconds between frames for which the last two hold."""


def fundamental_frequency(samples: np.ndarray, rate: int, hop: int, low: float = LOW, high: float = HIGH) -> np.ndarray:
    """Hz (t,) float64, 0 where there is no voice; t = n // hop + 1, frame i centred on sample i hop.

    Args:
        samples: (n,).
        rate: samples a second.
        hop: samples from one frame to the next.
        low: lowest voice, in Hz.
        high: highest voice, in Hz.
    """
    hertz, strength = _candidates(np.asarray(samples, np.float64), rate, hop, low, min(high, rate / 4))
    # The voiced candidates of a frame stand beside the one that it has none, 0 Hz.
    octaves, voiced = np.log2(np.maximum(hertz, 1e-9)), hertz > 0
    scale = _STEP * rate / hop
    total, before = strength[0], np.zeros(hertz.shape, np.int64)
    for i in range(1, len(hertz)):
        jumps = _JUMP * np.abs(octaves[i - 1][:, None] - octaves[i])
        both = voiced[i - 1][:, None] & voiced[i]
        one = voiced[i - 1][:, None] ^ voiced[i]
        reached = total[:, None] - scale * np.where(both, jumps, _CHANGE * one)
        before[i] = reached.argmax(0)
        total = reached.max(0) + strength[i]
    path = [int(total.argmax())]
    for i in range(len(hertz) - 1, 0, -1):
        path.append(int(before[i, path[-1]]))
    return hertz[np.arange(len(hertz)), path[::-1]]


def _candidates(x: np.ndarray, rate: int, hop: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Hz (t, k), 0 first, and how strong each is; -inf where a frame has fewer."""
    window = max(round(PERIODS * rate / low), 4)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, (window // 2, window)), window)[: len(x) + 1 : hop]
    frames = frames - frames.mean(1, keepdims=True)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)
    correlation, own = _autocorrelation(frames * shape), _autocorrelation(shape[None])
    lags = int(rate / low) + 2
    height = correlation[:, :lags] / np.maximum(correlation[:, :1], 1e-20) / (own[:, :lags] / own[:, :1])
    inner, first, last = height[:, 1:-1], height[:, :-2], height[:, 2:]
    curve = np.minimum(first - 2 * inner + last, -1e-12)
    shift = np.clip(0.5 * (first - last) / curve, -0.5, 0.5)
    peak = np.minimum(inner - 0.25 * (first - last) * shift, 1.0)
    hertz = rate / (np.arange(1, lags - 1) + shift)
    is_peak = (inner > first) & (inner >= last) & (hertz >= low) & (hertz <= high) & (inner > 0.5 * _VOICING)
    strength = np.where(is_peak, peak - _OCTAVE * np.log2(high / np.maximum(hertz, 1e-9)), -np.inf)
    best = np.argsort(-strength, axis=1, kind="stable")[:, : CANDIDATES - 1]
    loudness = np.abs(frames).max(1) / max(np.abs(x).max(initial=0), 1e-20)
    unvoiced = _VOICING + np.maximum(0, 2 - loudness * (1 + _VOICING) / _SILENCE)
    strength = np.column_stack([unvoiced, np.take_along_axis(strength, best, 1)])
    hertz = np.column_stack([np.zeros(len(hertz)), np.take_along_axis(hertz, best, 1)])
    return np.where(np.isfinite(strength), hertz, 0), strength


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    size = 2 ** int(np.ceil(np.log2(2 * frames.shape[1])))
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, size))), size)
