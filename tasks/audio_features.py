"""Features of recordings: a front end that runs on the device, and statistics learnt from the training split.

Dims: b recordings, n samples, t frames, f features.
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed, present
from suite.data.recordings import Recordings, decode, joined
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel, standardise
from suite.runtime import json_files

CHUNK = 32
"""Recordings whose features are computed at a time where they are learnt from."""


@dataclass(frozen=True, kw_only=True)
class AudioFeatures(Preprocessor):
    """What a model of recordings is given: features of zero mean and unit deviation over the training split.

    They are computed on the device, from samples; recordings that are stored as features are only scaled.
    """

    suffix: ClassVar[str] = ".json"
    of_weights: ClassVar[tuple[str, ...]] = ("kind", "front_end", "normalise")

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
        framed = self.kind != "samples"
        return Recordings(rate=self.rate, hop=self.front_end.hop, features=stored, longest=longest, framed=framed)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes mean and deviation to ``path``, and whether the recordings are stored as features.

        Raises:
            InputError: a recording that cannot be decoded, or features of different sizes.
        """
        rows = sampled(source, column, self.examples, self.rate)
        sums, squares, frames = 0.0, 0.0, 0
        for features, real in chunks(rows, self.front_end):
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


def sampled(source: Source, column: str, examples: int, rate: int) -> list[np.ndarray]:
    """Recordings of a column as `decode` reads them, at most ``examples``, evenly spaced."""
    return [decode(value, rate) for value in present(source[evenly_spaced(source, examples)][column])]


def chunks(
    rows: Sequence[np.ndarray], computed: Callable[[Any, Any], tuple[Any, Any]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features (b, t, f) of some recordings at a time, and which frames are real (b, t); rows of padding have none.

    Args:
        rows: recordings as samples (n,), or as features (t, f), which are taken as they are.
        computed: samples (b, n) and their mask -> features and theirs.
    """
    computed, longest = jax.jit(computed), max(map(len, rows), default=0)
    for start in range(0, len(rows), CHUNK):
        x, mask = joined(list(rows[start : start + CHUNK])).padded(longest)
        x = np.concatenate([x, np.zeros((CHUNK - len(x), *x.shape[1:]), x.dtype)])
        mask = np.concatenate([mask, np.zeros((CHUNK - len(mask), longest), bool)])
        yield computed(x, mask) if x.ndim == 2 else (x, mask)


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[np.ndarray, np.ndarray, int]:
    def build(content: Any) -> tuple[np.ndarray, np.ndarray, int]:
        return np.array(content["mean"], np.float32), np.array(content["std"], np.float32), content.get("stored", 0)

    return json_files.load(file, build)


def frame_vectors(
    encoder: Any, frames: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None
) -> tuple[jax.Array, jax.Array]:
    """Vectors (b, u, d) of the part ``audio`` of a model, and which are real (b, u).

    Raises:
        InputError: it gives no vector for each frame.
    """
    vectors = encoder(frames, mask, rngs=rngs)
    if not isinstance(vectors, tuple):
        raise InputError(
            "field model.parts.audio.pooling",
            "must give a vector for each frame.",
            found=str(getattr(encoder, "pooling", "")),
            fix="--model.parts.audio.pooling hidden",
        )
    return vectors
