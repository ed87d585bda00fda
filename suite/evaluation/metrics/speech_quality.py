"""How far speech that was made is from the speech that it should be: timbre, spectrum, voice and durations.

Frames are Hann windows of 25 ms every 12.5 ms, compared at the same time, silence included; or along the path of least
cepstral distance, where lengths differ. What lies more than 80 dB below the loudest point of the original counts as if
it lay there.

Dims: b recordings, n samples, t frames, u frames of the other, q frequencies of the FFT, m mel bands, c cepstra, p
phones.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from suite.contracts.metric_meaning import register_metric
from suite.data.preprocessing.pitch import fundamental_frequency
from suite.nn.audio.griffin_lim import mel_energies
from suite.nn.audio.spectral import LogMel, mel_bands

WINDOW, HOP = 0.025, 0.0125
"""Seconds of a frame, and from one frame to the next."""
BANDS = 80
"""Mel bands (HTK's scale) from 0 to half the sample rate."""
CEPSTRA = 13
"""Coefficients that are compared, from the first on: the zeroth is the loudness."""
BELOW = 80.0
"""Decibels below the loudest point of the original that still count."""
_DECIBELS = 10 / np.log(10)
"""Decibels of an energy whose natural logarithm is 1."""

Align = Literal["time", "dtw"]
"""Which frames are compared: those of the same time, or those that dynamic time warping pairs."""


class Distances(NamedTuple):
    """Of two recordings, means over frames.

    Attributes:
        mcd13: mel-cepstral distortion, in decibels.
        log_spectral_distance: in decibels.
        log_f0_error: root mean square difference of the natural logarithms of the fundamental frequencies, over frames
            that are voiced in both; nan where there is none.
        voicing_error: share of frames that are voiced in one alone.
    """

    mcd13: float
    log_spectral_distance: float
    log_f0_error: float
    voicing_error: float


def distances(original: np.ndarray, made: np.ndarray, rate: int, align: Align = "time") -> Distances:
    """How far two recordings are apart.

    Args:
        original: (n,) samples.
        made: samples that should be alike: as many, where they are compared at the same time.
        rate: samples a second.
        align: which frames are compared.
    """
    spectra = [magnitudes(samples, rate) for samples in (original, made)]
    lowest = max(spectra[0].max() * 10 ** (-BELOW / 20), 1e-10)
    logs = [np.log(np.maximum(spectrum, lowest)) for spectrum in spectra]
    cepstra = [mel_cepstra(_log_mels(spectrum, rate, lowest)) for spectrum in spectra]
    paired = _paired(cepstra[0], cepstra[1], align)
    apart = 2 * _DECIBELS * (logs[0][paired[0]] - logs[1][paired[1]])
    hop = max(round(HOP * rate), 1)
    voices = [
        fundamental_frequency(samples, rate, hop)[at] for samples, at in zip((original, made), paired, strict=True)
    ]
    return Distances(
        float(_distortions(cepstra[0][paired[0]], cepstra[1][paired[1]]).mean()),
        float(np.sqrt(np.square(apart).mean(1)).mean()),
        log_f0_error(*voices),
        voicing_error(*voices),
    )


def magnitudes(samples: np.ndarray, rate: int) -> np.ndarray:
    """(t, q) float64 amplitudes."""
    window, hop = max(round(WINDOW * rate), 2), max(round(HOP * rate), 1)
    size = 4 * 2 ** int(np.ceil(np.log2(window)))  # so that each band of the mel scale has a frequency
    padded = np.pad(np.asarray(samples, np.float64), (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(samples) + 1 : hop]
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.abs(np.fft.rfft(frames * weights, size))


def _log_mels(spectrum: np.ndarray, rate: int, lowest: float) -> np.ndarray:
    """(t, BANDS): natural logarithms of the mean amplitude (t, q) of each band."""
    bands = mel_bands(rate, 2 * (spectrum.shape[1] - 1), BANDS, 0.0, rate / 2, "htk", True).astype(np.float64)
    bands /= np.maximum(bands.sum(0), 1e-12)
    return np.log(np.maximum(spectrum @ bands, lowest))


def mel_cepstra(log_mels: np.ndarray) -> np.ndarray:
    """(t, CEPSTRA): coefficients of the cosine series that log mel *amplitudes* (t, m) are, from the first on.

    They are the orthonormal cosine transform of type 2, times the root of 2 / m.
    """
    return log_mels @ _cosines(log_mels.shape[1])


def _cosines(size: int) -> np.ndarray:
    """(m, CEPSTRA)."""
    places = (np.arange(size) + 0.5) * np.pi / size
    return np.cos(np.outer(places, np.arange(1, CEPSTRA + 1))) * (2 / size)


def mel_distortion(
    front_end: LogMel, reference: Float[Array, "b t m"], made: Float[Array, "b t m"], real: Bool[Array, "b t"]
) -> Float[Array, "b"]:
    """Mel-cepstral distortion in decibels of features of a front end, before a waveform is made of them: the mean over
    frames that are ``real``. Jitted.
    """
    logs = [
        jnp.log(jnp.maximum(mel_energies(front_end, bands), front_end.floor)) / front_end.power
        for bands in (reference, made)
    ]
    apart = jnp.matmul(logs[0] - logs[1], _cosines(front_end.bins).astype(np.float32), precision="highest")
    frames = jnp.where(real, _DECIBELS * jnp.sqrt(2 * jnp.square(apart).sum(-1)), 0)
    return frames.sum(1) / jnp.maximum(real.sum(1), 1)


def mel_cepstral_distortion(reference: np.ndarray, made: np.ndarray, align: Align = "time") -> float:
    """Mel-cepstral distortion in decibels, the mean over frames: 10 / ln 10 * sqrt(2 * sum of squared differences of
    the cepstra 1 to 13).

    Args:
        reference: (t, m) natural logarithms of mel amplitudes; half of those of energies.
        made: (u, m) the same, u = t where frames of the same time are compared.
        align: which frames are compared.
    """
    cepstra = mel_cepstra(reference), mel_cepstra(made)
    left, right = _paired(*cepstra, align)
    return float(_distortions(cepstra[0][left], cepstra[1][right]).mean())


def _distortions(reference: np.ndarray, made: np.ndarray) -> np.ndarray:
    """(t,) decibels between cepstra (t, c)."""
    return _DECIBELS * np.sqrt(2 * np.square(reference - made).sum(1))


def _paired(reference: np.ndarray, made: np.ndarray, align: Align) -> tuple[np.ndarray, np.ndarray]:
    """Places of the frames that are compared, in each of two cepstra (t, c) and (u, c)."""
    if align == "dtw":
        return warping_path(np.sqrt(np.square(reference[:, None] - made[None]).sum(2)))
    if len(reference) != len(made):
        raise ValueError(f"frames of the same time: {len(reference)} and {len(made)} of them; align='dtw' warps time")
    every = np.arange(len(reference))
    return every, every


def warping_path(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path from the first pair of frames to the last, by steps of one frame in either or in both.

    `Sakoe and Chiba, 1978 <https://doi.org/10.1109/TASSP.1978.1163055>`_, without weights or a band.

    Args:
        costs: (t, u) of each pair.

    Returns:
        The frames of either side, as many.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):  # pairs whose places have this sum depend on no other of them
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        before = np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
        total[i + 1, j + 1] = costs[i, j] + before
    i, j, path = rows, columns, []
    while i and j:
        path.append((i - 1, j - 1))
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda place: total[place])
    left, right = zip(*reversed(path), strict=True)
    return np.array(left), np.array(right)


def log_f0_error(reference: np.ndarray, made: np.ndarray) -> float:
    """Root mean square difference of natural logarithms, over frames with a voice in both; nan where there is none.

    Args:
        reference: (t,) Hz, 0 where there is no voice.
        made: (t,) the same.
    """
    both = (reference > 0) & (made > 0)
    if not both.any():
        return float("nan")
    return float(np.sqrt(np.square(np.log(reference[both]) - np.log(made[both])).mean()))


def voicing_error(reference: np.ndarray, made: np.ndarray) -> float:
    """Share of frames with a voice in one alone; both (t,) in Hz, 0 where there is no voice."""
    return float(((reference > 0) != (made > 0)).mean())


def duration_error(reference: np.ndarray, made: np.ndarray) -> float:
    """Mean absolute difference of the durations of phones (p,), in their unit."""
    return float(np.abs(np.asarray(reference, np.float64) - np.asarray(made, np.float64)).mean())


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
    "mel_mcd13",
    "The mel-cepstral distortion of the mel bands that a model predicts, before a waveform is made of them, in frames "
    "of its front end; else as MCD13. 0 is best.",
    "lower",
    title="mel-cepstral distortion of mel bands (MCD13, dB)",
)
register_metric(
    "mcd13_dtw",
    "The mel-cepstral distortion of frames that dynamic time warping pairs, so that durations do not count; else as "
    "MCD13. 0 is best.",
    "lower",
    title="mel-cepstral distortion, time warped (MCD13, dB)",
)
register_metric(
    "log_spectral_distance",
    "Root mean square difference of the two spectra in decibels over the frequencies of a frame, averaged over frames. "
    "0 is best. It sees the fine structure between harmonics, which the mel-cepstral distortion does not.",
    "lower",
    title="log-spectral distance (dB)",
)
register_metric(
    "log_f0_error",
    "Root mean square difference of the natural logarithms of the fundamental frequencies, over frames that are voiced "
    "in both recordings, averaged over recordings. 0 is best; 0.06 is a semitone. By autocorrelation (Boersma, 1993), "
    "60 to 500 Hz.",
    "lower",
    title="log-F0 error",
)
register_metric(
    "voicing_error",
    "Share of frames that are voiced in one of the two recordings alone. 0 % is best.",
    "lower",
    share=True,
)
register_metric(
    "duration_error",
    "Mean absolute difference of the durations of phones, in milliseconds. 0 is best.",
    "lower",
    title="duration error (ms)",
)
