"""How far a recording that was made is from the one it should be: mel-cepstral distortion, log-spectral distance.

Both compare frame with frame at the same time, without time warping, silence included. Frames are Hann windows of 25 ms
every 12.5 ms. What lies more than 80 dB below the loudest point of the original counts as if it lay there.

Dims: n samples, t frames, q frequencies of the FFT, m mel bands.
"""

import numpy as np

from suite.contracts.metric_meaning import register_metric
from suite.nn.audio.spectral import mel_bands

WINDOW, HOP = 0.025, 0.0125
"""Seconds of a frame, and from one frame to the next."""
BANDS = 80
"""Mel bands (HTK's scale) from 0 to half the sample rate."""
CEPSTRA = 13
"""Coefficients that are compared, from the first on: the zeroth is the loudness."""
BELOW = 80.0
"""Decibels below the loudest point of the original that still count."""


def magnitudes(samples: np.ndarray, rate: int) -> np.ndarray:
    """(t, q) float64 amplitudes."""
    window, hop = max(round(WINDOW * rate), 2), max(round(HOP * rate), 1)
    size = 4 * 2 ** int(np.ceil(np.log2(window)))  # so that each band of the mel scale has a frequency
    padded = np.pad(np.asarray(samples, np.float64), (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(samples) + 1 : hop]
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.abs(np.fft.rfft(frames * weights, size))


def distances(original: np.ndarray, made: np.ndarray, rate: int) -> tuple[float, float]:
    """Mel-cepstral distortion and log-spectral distance, in decibels, means over frames.

    Args:
        original: (n,) samples.
        made: (n,) samples that should be alike.
        rate: samples a second.
    """
    spectra = [magnitudes(samples, rate) for samples in (original, made)]
    lowest = max(spectra[0].max() * 10 ** (-BELOW / 20), 1e-10)
    logs = [np.log(np.maximum(spectrum, lowest)) for spectrum in spectra]
    apart = 20 / np.log(10) * (logs[0] - logs[1])
    bands = mel_bands(rate, 2 * (spectra[0].shape[1] - 1), BANDS, 0.0, rate / 2, "htk", True).astype(np.float64)
    bands /= np.maximum(bands.sum(0), 1e-12)
    cepstra = [_cepstra(np.log(np.maximum(spectrum @ bands, lowest))) for spectrum in spectra]
    squared = np.square(cepstra[0] - cepstra[1]).sum(1)
    distortion = 10 / np.log(10) * np.sqrt(2 * squared).mean()
    return float(distortion), float(np.sqrt(np.square(apart).mean(1)).mean())


def _cepstra(logs: np.ndarray) -> np.ndarray:
    """(t, CEPSTRA): coefficients of the cosine series that the logarithms (t, m) are, from the first on."""
    places = (np.arange(BANDS) + 0.5) * np.pi / BANDS
    return logs @ np.cos(np.outer(places, np.arange(1, CEPSTRA + 1))) * (2 / BANDS)


register_metric(
    "mcd13",
    "How far the timbre of what was made is from the original's, in decibels: 10 / ln 10 times the root of twice the "
    "summed squared differences of the mel cepstra 1 to 13, averaged over frames. Cepstra are coefficients of the "
    "cosine series of the log amplitudes of 80 mel bands; frames of 25 ms every 12.5 ms, compared at the same time, "
    "silence included, at most 80 dB below the loudest point. 0 is best; figures of other definitions do not compare.",
    "lower",
    title="mel-cepstral distortion (MCD13, dB)",
)
register_metric(
    "log_spectral_distance",
    "Root mean square difference of the two spectra in decibels over the frequencies of a frame, averaged over frames. "
    "0 is best. It sees the fine structure between harmonics, which the mel-cepstral distortion does not.",
    "lower",
    title="log-spectral distance (dB)",
)
