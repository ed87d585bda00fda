"""Recordings: decoding, cleaning, augmentation, and the features learnt from the training split.

A recording is a path, the bytes of a file, or samples (n,); where features were computed before, they stand in its
place as (t, f). Dims: b recordings, n samples, t frames, f features.
"""

import functools
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from suite.base import Asset, Data, Ragged, Source
from suite.data.columns import origin, require
from suite.data.memory import Subset
from suite.data.reading import AUDIO, changed
from suite.errors import InputError
from suite.nn.spectral import LogMel, standardise

CHUNK = 32
"""Recordings whose features are computed at a time where they are learnt from."""


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        fix = 'pip install "suite[speech]"'
        raise InputError("package soundfile", "is needed to read recordings, and not installed.", fix=fix) from error
    return soundfile


def decode(value: Any, rate: int) -> np.ndarray:
    """One recording as float32 samples (n,) in -1..1 at ``rate`` a second, or its features (t, f) as they are.

    Channels are averaged. Resampling is soxr's, of high quality.

    Raises:
        InputError: not a recording, damaged, without samples, or an array of another type or shape.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value)
    soundfile, name = _soundfile(), name_of(value)
    try:
        samples, found = soundfile.read(_opened(value), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _undecodable(value, error) from error
    if not len(samples):
        raise InputError(name, "this recording holds no samples", fix="replace or remove the file")
    samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)
    return samples if found == rate else resample(samples, found / rate)


def resample(samples: np.ndarray, ratio: float) -> np.ndarray:
    """Samples (n,) at a rate ``ratio`` times lower: about n / ratio of them."""
    try:
        import soxr
    except ImportError as error:
        fix = 'pip install "suite[speech]", or record at the rate of the model'
        raise InputError("package soxr", "is needed to change sample rates, and not installed.", fix=fix) from error
    return np.ascontiguousarray(soxr.resample(samples, ratio, 1.0, quality="HQ"), np.float32)


def _from_array(value: np.ndarray) -> np.ndarray:
    if value.dtype == np.int16 and value.ndim == 1:
        return value.astype(np.float32) / 2**15
    if value.dtype.kind != "f" or value.ndim not in (1, 2) or not len(value):
        found = f"{value.dtype} {value.shape}"
        raise InputError("recording", "must be float or int16 samples (n,), or float features (t, f)", found=found)
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


def require_audio(source: Source, fields: Mapping[str, str], data: Data) -> None:
    """Every column named by ``fields`` is in the source, or InputError; says why TFDS gives no recordings."""
    name = fields["audio"]
    if name not in source.schema and type(data).__name__ == "Tfds":
        raise InputError("field task.audio", f'the recordings "{name}" of {origin(data)} are not read.',
                         found="TFDS decodes its Audio feature by TensorFlow, which is not loaded here",
                         fix="write them as wav files with a manifest.jsonl, and --data manifest.jsonl")  # fmt: skip
    require(source, fields, origin(data))


def without_unusable(source: Source, name: str, features: "AudioFeatures", longest: float) -> Source:
    """The records whose recording can be read and lasts at most ``longest`` seconds; others are dropped and counted.

    Headers alone are read: what is damaged further on is refused when it is decoded.
    """
    counts = {"no such recording": 0, "broken recording": 0, "empty recording": 0, f"longer than {longest:g} s": 0}
    broken, empty, long = list(counts)[1:]
    keep = np.zeros(len(source), bool)
    for start in range(0, len(source), 1024):
        chunk = np.arange(start, min(start + 1024, len(source)))
        for place, value in zip(chunk, source[chunk][name], strict=True):
            try:
                length = seconds(value, features.front_end.sample_rate, features.front_end.hop)
            except InputError as error:
                if error.where == "package soundfile":
                    raise
                counts["no such recording" if "no such" in error.problem else broken] += 1
                continue
            keep[place] = 0 < length <= longest
            if not keep[place]:
                counts[long if length else empty] += 1
    if keep.all():
        return source
    dropped = {**source.dropped, **{reason: count for reason, count in counts.items() if count}}
    if not keep.any():
        found = ", ".join(f"{count} dropped: {reason}" for reason, count in dropped.items())
        raise InputError(f"column {name}", "no recording can be used.", found=found,
                         fix="check the paths, or raise --task.max_seconds")  # fmt: skip
    return Subset(source, np.flatnonzero(keep), dropped)


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


@functools.lru_cache(maxsize=8)
def _recordings(folder: str) -> list[str]:
    files = sorted(str(file) for file in Path(folder).expanduser().rglob("*") if file.suffix.lower() in AUDIO)
    if not files:
        raise InputError(folder, "no recording in this folder", fix=f"use a folder with {' '.join(AUDIO)} files")
    return files


@dataclass(frozen=True, kw_only=True)
class AudioFeatures(Asset):
    """What a model of recordings is given: features of zero mean and unit deviation over the training split.

    They are computed on the device, from samples; recordings that are stored as features are only scaled.
    """

    suffix: ClassVar[str] = ".json"
    of: ClassVar[str] = "audio"

    kind: Literal["spectral", "samples"] = "spectral"
    """spectral: features of frames; samples: the waveform itself, each of zero mean and unit deviation, as wav2vec
    2.0 takes it."""
    front_end: LogMel = field(default_factory=LogMel)
    """Sample rate and features."""
    normalise: Literal["split", "recording"] = "split"
    """Whether each feature is scaled by its mean and deviation over the training split, or over its own recording."""
    examples: int = 500
    """Most recordings to learn from; of more, an evenly spaced selection."""

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.front_end.sample_rate

    @property
    def mean(self) -> np.ndarray:
        """(f,) float32."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def std(self) -> np.ndarray:
        """(f,) float32."""
        return _stored(self.file, changed(self.file))[1]

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes mean and deviation to ``path``.

        Raises:
            InputError: a recording that cannot be decoded, or features of different sizes.
        """
        import jax

        count = min(len(source), self.examples)
        values = source[np.arange(count) * len(source) // max(count, 1)][column]
        rows = [decode(value, self.rate) for value in values]
        computed = jax.jit(self.front_end)
        longest = max(map(len, rows))
        sums, squares, frames = 0.0, 0.0, 0
        for start in range(0, count, CHUNK):
            x, mask = _joined(rows[start : start + CHUNK]).padded(longest)
            x = np.concatenate([x, np.zeros((CHUNK - len(x), *x.shape[1:]), x.dtype)])
            mask = np.concatenate([mask, np.zeros((CHUNK - len(mask), longest), bool)])
            features, real = computed(x, mask) if x.ndim == 2 else (x, mask)
            chosen = np.asarray(features, np.float64)[np.asarray(real)]
            sums, squares, frames = sums + chosen.sum(0), squares + np.square(chosen).sum(0), frames + len(chosen)
        mean = sums / max(frames, 1)
        std = np.sqrt(np.maximum(squares / max(frames, 1) - np.square(mean), 1e-8))
        path.write_text(json.dumps({"mean": np.round(mean, 6).tolist(), "std": np.round(std, 6).tolist()}))

    def dims(self) -> dict[str, int]:
        """``inputs``: features a frame; nothing for samples."""
        return {} if self.kind == "samples" else {"inputs": len(self.mean)}

    def encode(self, values: Sequence[Any], perturb: Sequence[Perturbation] = (),
               rng: np.random.Generator | None = None, longest: float = float("inf")) -> dict[str, Ragged]:  # fmt: skip
        """``audio``: samples, or features that were stored, float32; changed by ``perturb`` where ``rng`` is given.

        Without ``rng``, ``room`` is as long as ``perturb`` could make each row: so the buckets hold it in training.

        Raises:
            InputError: a recording that cannot be decoded, or lasts longer than ``longest`` seconds.
        """
        rows = [decode(value, self.rate) for value in values]
        for value, row in zip(values, rows, strict=True):
            lasts = seconds(row, self.rate, self.front_end.hop)
            if lasts > longest:
                raise InputError(name_of(value), f"this recording lasts {lasts:.1f} s, longer than the model takes.",
                                 found=f"limit {longest:g} s",
                                 fix="cut it, or train with a larger --task.max_seconds")  # fmt: skip
        stretch = float(np.prod([p.stretch for p in perturb]))
        if rows and rows[0].ndim == 1 and perturb and rng is not None:
            for change in perturb:
                rows = [change(row, self.rate, rng) for row in rows]
        made = {"audio": _joined(rows)}
        if rng is None and stretch > 1 and made["audio"].values.ndim == 1:
            lengths = np.ceil(made["audio"].lengths * stretch).astype(np.int64) + 1
            made["room"] = Ragged(np.zeros((int(lengths.sum()), 0), np.uint8), lengths)
        return made

    def frames(
        self, audio: Float[Array, "b n *f"], mask: Bool[Array, "b n"]
    ) -> tuple[Float[Array, "b t *f"], Bool[Array, "b t"]]:
        """What the model is given, and which of it is real. Jitted, within loss and predict."""
        if self.kind == "samples":
            return standardise(audio, mask), mask
        features, real = self.front_end(audio, mask) if audio.ndim == 2 else (audio, mask)
        mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
        if self.normalise == "recording":
            weights = real[..., None].astype(jnp.float32)
            count = jnp.maximum(weights.sum(1, keepdims=True), 1)
            mean = (features * weights).sum(1, keepdims=True) / count
            spread = (jnp.square(features - mean) * weights).sum(1, keepdims=True) / count
            std = jnp.sqrt(jnp.maximum(spread, 1e-4 * jnp.square(std)))
        return jnp.where(real[..., None], (features - mean) / std, 0), real


def _joined(rows: list[np.ndarray]) -> Ragged:
    sizes = {row.shape[1:] for row in rows}
    if len(sizes) > 1:
        found = ", ".join(sorted("samples" if not size else f"{size[0]} features" for size in sizes))
        raise InputError("recordings", "they are not all samples, or features of one size", found=found)
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged(np.concatenate(rows) if rows else np.zeros(0, np.float32), lengths)


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[np.ndarray, np.ndarray]:
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return np.array(content["mean"], np.float32), np.array(content["std"], np.float32)
