"""From waveforms to features: framing, log-mel, MFCC, and masks on them.

Dims: b batch, n samples, t frames, k samples a window, f features (mel bins or cepstra), q frequencies of the FFT.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from suite.errors import InputError
from suite.parallel.layout import for_rows

Scale = Literal["htk", "slaney", "kaldi"]


def standardise(samples: Float[Array, "b n"], mask: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """Zero mean and unit variance over each row's own samples, 0 behind them: what wav2vec 2.0 takes."""
    count = jnp.maximum(mask.sum(1, keepdims=True), 1)
    mean = jnp.where(mask, samples, 0).sum(1, keepdims=True) / count
    centred = jnp.where(mask, samples - mean, 0)
    return centred * jax.lax.rsqrt(jnp.square(centred).sum(1, keepdims=True) / count + 1e-7)


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Energies in mel bands, on a log scale; with ``cepstra``, their cosine transform (MFCC).

    A row's features depend on its own samples alone, whatever it is padded to. All but the sizes
    (hop, bins) is by default as in ``torchaudio.transforms.MelSpectrogram``, followed by a logarithm; the presets
    below are feature extractors of published models.
    """

    sample_rate: int = 16_000
    """Samples a second."""
    window: int = 400
    """Samples a frame."""
    hop: int = 160
    """Samples from one frame to the next."""
    fft: int = 400
    """Length of the Fourier transform, at least the window's."""
    bins: int = 80
    """Mel bands."""
    low: float = 0.0
    """Lower end of the first band, in Hz."""
    high: float = 0.0
    """Upper end of the last band, in Hz. 0: half the sample rate."""
    scale: Scale = "htk"
    """Mel scale: htk; slaney, linear below 1 kHz; kaldi, htk with bands that are triangles in mel."""
    area: bool = False
    """Divide each band by its width (Slaney's norm)."""
    power: float = 2.0
    """Exponent of the magnitude."""
    shape: Literal["hann", "hamming", "povey", "symmetric"] = "hann"
    """Window function: hann and hamming are periodic; symmetric is Hann's, and povey that to the power 0.85."""
    center: bool = True
    """Frames are centred on multiples of hop, the ends mirrored; otherwise only whole frames are taken."""
    log: Literal["natural", "log10", "decibel", "none"] = "natural"
    """Scale of the energies."""
    floor: float = 1e-10
    """Least energy that a logarithm is taken of."""
    range: float = 0.0
    """Raise what lies this far below a row's maximum, in units of ``log``, to there. 0: off."""
    affine: tuple[float, float] = (0.0, 1.0)
    """Last of all, features are (x + first) * second."""
    drop_last: bool = False
    """Leave out the last frame, as Whisper does."""
    gain: float = 1.0
    """Factor on the samples."""
    centred_frames: bool = False
    """Subtract each frame's mean."""
    preemphasis: float = 0.0
    """Share of the sample before that is subtracted, within each frame."""
    cepstra: int = 0
    """Coefficients of the orthonormal cosine transform to keep (MFCC). 0: mel bands as they are."""

    def __post_init__(self):
        if not 0 < self.window <= self.fft or self.hop < 1:
            sizes = f"window {self.window}, fft {self.fft}, hop {self.hop}"
            raise InputError("field window", "must be at most fft, and hop at least 1", found=sizes)
        if self.cepstra > self.bins:
            raise InputError("field cepstra", f"must be at most bins, {self.bins}", found=str(self.cepstra))
        if not self.low < (self.high or self.sample_rate / 2) <= self.sample_rate / 2:
            raise InputError(
                "field high",
                "must lie above low and at most at half the sample rate",
                found=f"low {self.low}, high {self.high}",
            )

    @property
    def size(self) -> int:
        """Features a frame."""
        return self.cepstra or self.bins

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give, an int or an array of them."""
        count = (samples if self.center else samples - self.window) // self.hop + 1
        count = count * (samples > 0)
        return max(count - self.drop_last, 0) if isinstance(count, int) else jnp.maximum(count - self.drop_last, 0)

    def __call__(
        self, samples: Float[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> tuple[Float[Array, "b t f"], Bool[Array, "b t"]]:
        """Features of each frame, 0 behind a row's last one, and which frames are real."""
        lengths = mask.sum(1)
        count = int(self.frames(samples.shape[1]))
        real = jnp.arange(count) < self.frames(lengths)[:, None]
        x = jnp.where(mask, samples.astype(jnp.float32) * self.gain, 0)
        if self.center:
            # Windows shorter than the transform stand in its middle; the phase that this shifts is not kept.
            x = _mirrored(x, lengths, self.fft // 2)[:, (self.fft - self.window) // 2 :]
        windows = _frames(x, count, self.window, self.hop)
        if self.centred_frames:
            windows = windows - windows.mean(-1, keepdims=True)
        if self.preemphasis:
            before = jnp.concatenate([windows[..., :1], windows[..., :-1]], -1)
            windows = windows - self.preemphasis * before
        spectrum = jnp.fft.rfft(windows * window_function(self.shape, self.window), self.fft)
        energy = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        if self.power != 2:
            energy = energy ** (self.power / 2)
        bands = mel_bands(
            self.sample_rate, self.fft, self.bins, self.low, self.high or self.sample_rate / 2, self.scale, self.area
        )
        features = self._logarithm(jnp.matmul(energy, bands, precision="highest"), real)
        if self.cepstra:
            features = jnp.matmul(features, _cosines(self.bins, self.cepstra), precision="highest")
        features = (features + self.affine[0]) * self.affine[1]
        return jnp.where(real[..., None], features, 0), real

    def _logarithm(self, energy: Array, real: Array) -> Array:
        if self.log == "none":
            return energy
        logs = jnp.log(jnp.maximum(energy, self.floor))
        logs = logs * {"natural": 1.0, "log10": 1 / np.log(10), "decibel": 10 / np.log(10)}[self.log]
        if not self.range:
            return logs
        top = jnp.where(real[..., None], logs, -jnp.inf).max((1, 2), keepdims=True)
        return jnp.maximum(logs, top - self.range)


def whisper(bins: int = 80) -> LogMel:
    """What Whisper takes (arXiv 2212.04356), of a recording as long as it is: pad it to 30 s where the model asks."""
    return LogMel(bins=bins, scale="slaney", area=True, log="log10", range=8.0, affine=(4.0, 0.25), drop_last=True)


def kaldi(bins: int = 80, gain: float = 2.0**15, shape: Literal["povey", "symmetric"] = "povey") -> LogMel:
    """Kaldi's filter banks, as SeamlessM4T takes them; with gain 1, 128 bins and symmetric, those of AST.

    What the two do then, scaling by statistics, is left to the caller.
    """
    return LogMel(
        fft=512,
        bins=bins,
        low=20.0,
        scale="kaldi",
        shape=shape,
        center=False,
        floor=2.0**-23,
        gain=gain,
        centred_frames=True,
        preemphasis=0.97,
    )


def mfcc(cepstra: int = 40, bins: int = 128, **options: float) -> LogMel:
    """``torchaudio.transforms.MFCC`` of one recording: decibels, 80 of them below the maximum, cosine transform."""
    return LogMel(bins=bins, cepstra=cepstra, log="decibel", range=80.0, **options)  # type: ignore[arg-type]


def _mirrored(x: Array, lengths: Array, edge: int) -> Array:
    """(b, n + 2 edge): ``edge`` samples before each row's start and behind its end mirror what lies inside."""
    size = x.shape[1]
    inside = jnp.arange(1, edge + 1)
    # A row shorter than the edge has too little to mirror: its last sample stands for the rest.
    last = jnp.maximum(lengths[:, None] - 1, 0)
    head = jnp.take_along_axis(x, jnp.minimum(inside[::-1], last), axis=1)
    tail = jnp.take_along_axis(x, jnp.maximum(last - inside, 0), axis=1)
    padded = jnp.concatenate([head, x, jnp.zeros((x.shape[0], edge), x.dtype)], axis=1)
    place = jax.vmap(lambda row, end, start: jax.lax.dynamic_update_slice(row, end, (start,)))
    return place(padded, tail, edge + jnp.minimum(lengths, size))


def _frames(x: Array, count: int, window: int, hop: int) -> Array:
    """(b, count, window): frame i begins at sample i * hop; what lies past the end is 0."""
    part = int(np.gcd(window, hop))  # whole runs of samples are gathered, not single ones
    needed = (max(count, 1) - 1) * hop + window
    needed = -(-needed // part) * part
    x = jnp.pad(x, ((0, 0), (0, max(needed - x.shape[1], 0))))[:, :needed]
    runs = x.reshape(x.shape[0], -1, part)
    index = np.arange(count)[:, None] * (hop // part) + np.arange(window // part)
    return runs[:, index].reshape(x.shape[0], count, window)


@functools.cache
def window_function(shape: str, size: int) -> np.ndarray:
    """(k,) float32: the window function that `LogMel.shape` names."""
    periodic = shape in ("hann", "hamming")
    angle = 2 * np.pi * np.arange(size) / (size if periodic else size - 1)
    values = 0.54 - 0.46 * np.cos(angle) if shape == "hamming" else 0.5 - 0.5 * np.cos(angle)
    return (values**0.85 if shape == "povey" else values).astype(np.float32)


def _mel(hertz: np.ndarray | float, scale: str) -> np.ndarray:
    hertz = np.asarray(hertz, np.float64)
    if scale != "slaney":
        return 2595 * np.log10(1 + hertz / 700)
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) * 27 / np.log(6.4))


def _hertz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale != "slaney":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


@functools.cache
def mel_bands(rate: int, fft: int, bins: int, low: float, high: float, scale: str, area: bool) -> np.ndarray:
    """(q, f) float32: triangles, each from the centre of the band below to that of the band above."""
    edges = np.linspace(_mel(low, scale), _mel(high, scale), bins + 2)
    places: np.ndarray = np.linspace(0, rate / 2, fft // 2 + 1)
    if scale == "kaldi":
        corners, places = edges, _mel(places, scale)
    else:
        corners = _hertz(edges, scale)
    widths = np.diff(corners)
    rising = (places[:, None] - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - places[:, None]) / widths[1:]
    bands = np.maximum(np.minimum(rising, falling), 0)
    if scale == "kaldi":
        bands[-1] = 0  # Kaldi leaves out the highest frequency
    if area:
        bands = bands * 2 / (corners[2:] - corners[:-2])
    return bands.astype(np.float32)


@functools.cache
def _cosines(bins: int, cepstra: int) -> np.ndarray:
    """(bins, cepstra) float32: the orthonormal cosine transform of type 2."""
    table = np.cos(np.pi / bins * (np.arange(bins)[:, None] + 0.5) * np.arange(cepstra)) * np.sqrt(2 / bins)
    table[:, 0] /= np.sqrt(2)
    return table.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """Blanks out stretches of time and of frequency (arXiv 1904.08779), each row its own; no time warping."""

    time_masks: int = 2
    """Stretches of frames."""
    time_share: float = 0.05
    """Longest stretch, as a share of the row's frames (arXiv 1912.05533)."""
    frequency_masks: int = 2
    """Stretches of features."""
    frequency_width: int = 15
    """Longest stretch of features."""

    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"], key: Key[Array, ""]
    ) -> Float[Array, "b t f"]:
        """The features with 0, their mean, in the stretches."""
        rows, frames, size = features.shape
        in_time, in_frequency = jax.random.split(key)
        lengths = mask.sum(1)
        hidden = _stretches(in_time, self.time_masks, lengths, self.time_share * lengths, frames)[:, :, None]
        wide = jnp.full(rows, float(min(self.frequency_width, size)))
        bands = _stretches(in_frequency, self.frequency_masks, jnp.full(rows, size), wide, size)[:, None, :]
        return jnp.where(hidden | bands, 0.0, features)


def _stretches(key: Array, count: int, lengths: Array, widest: Array, size: int) -> Array:
    """(b, size) bool: the union of ``count`` stretches a row, of at most ``widest`` (b,) of its ``lengths`` (b,)."""
    width_key, start_key = jax.random.split(key)
    shape = (lengths.shape[0], count)
    uniform = lambda key: for_rows(lambda whole: jax.random.uniform(key, whole), shape)
    widths = jnp.floor(uniform(width_key) * (widest[:, None] + 1))
    starts = jnp.floor(uniform(start_key) * (lengths[:, None] - widths + 1))
    places = jnp.arange(size)
    inside = (places >= starts[..., None]) & (places < (starts + widths)[..., None])
    return inside.any(1)
