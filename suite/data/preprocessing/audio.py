"""Recordings in training: cleaning, augmentation, and the features learnt from the training split.

How a recording is read is in `suite.data.recordings`. Dims: b recordings, n samples, t frames, f features.
"""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from suite.contracts.batch import Ragged
from suite.contracts.data import Data, Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.columns import origin, require
from suite.data.reading import AUDIO, changed
from suite.data.recordings import Recordings, decode, joined, resample, seconds
from suite.data.sources.memory import Subset
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel, standardise

CHUNK = 32
"""Recordings whose features are computed at a time where they are learnt from."""


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
        reasons = ", ".join(f"{count} dropped: {reason}" for reason, count in dropped.items())
        raise InputError(
            f"column {name}",
            "no recording can be used.",
            found=reasons,
            fix="check the paths, or raise --task.max_seconds",
        )
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


@dataclass(frozen=True, kw_only=True)
class AudioFeatures(Preprocessor):
    """What a model of recordings is given: features of zero mean and unit deviation over the training split.

    They are computed on the device, from samples; recordings that are stored as features are only scaled.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "audio"
    """Field of the task that names the column of recordings."""

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

    def recordings(self, longest: float) -> Recordings:
        """How recordings of at most ``longest`` seconds are read."""
        stored = _stored(self.file, changed(self.file))[2] if self.file else 0
        return Recordings(rate=self.rate, hop=self.front_end.hop, features=stored, longest=longest)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes mean and deviation to ``path``, and whether the recordings are stored as features.

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
            x, mask = joined(rows[start : start + CHUNK]).padded(longest)
            x = np.concatenate([x, np.zeros((CHUNK - len(x), *x.shape[1:]), x.dtype)])
            mask = np.concatenate([mask, np.zeros((CHUNK - len(mask), longest), bool)])
            features, real = computed(x, mask) if x.ndim == 2 else (x, mask)
            chosen = np.asarray(features, np.float64)[np.asarray(real)]
            sums, squares, frames = sums + chosen.sum(0), squares + np.square(chosen).sum(0), frames + len(chosen)
        mean = sums / max(frames, 1)
        std = np.sqrt(np.maximum(squares / max(frames, 1) - np.square(mean), 1e-8))
        stored = rows[0].shape[1] if rows and rows[0].ndim == 2 else 0
        content = {"mean": np.round(mean, 6).tolist(), "std": np.round(std, 6).tolist(), "stored": stored}
        path.write_text(json.dumps(content))

    def sizes(self) -> dict[str, int]:
        """``inputs``: features a frame; nothing for samples."""
        return {} if self.kind == "samples" else {"inputs": len(self.mean)}

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


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[np.ndarray, np.ndarray, int]:
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return np.array(content["mean"], np.float32), np.array(content["std"], np.float32), content.get("stored", 0)
