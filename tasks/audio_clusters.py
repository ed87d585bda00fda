"""Clusters of the frames of recordings, which stand for their sounds where nothing is written down (HuBERT).

Dims: b recordings, n samples, t frames, f coefficients, k clusters.
"""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel
from suite.runtime import json_files
from suite.tasks.audio_features import chunks, sampled

MOST_FRAMES = 200_000
"""Frames that clusters are learnt from; of more, evenly spaced ones."""
REACH = 2
"""Frames to either side that the slope of a coefficient is computed from."""


@dataclass(frozen=True, kw_only=True)
class AudioClusters(Preprocessor):
    """k-means of the cepstra of training frames with their first and second differences over time, the targets of the
    first iteration of HuBERT (`Hsu et al., 2021 <https://arxiv.org/abs/2106.07447>`_).

    Recordings that are stored as features are clustered by these.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "audio"
    """Field of the task that names the column of recordings."""
    part: str = "predictor"
    """The part of the model whose outputs they are."""
    front_end: LogMel = field(default_factory=lambda: LogMel(bins=40, cepstra=13))
    """Sample rate, and what is computed of each frame."""
    count: int = 100
    """Clusters."""
    examples: int = 2000
    """Most recordings to learn from; of more, an evenly spaced selection."""
    seed: int = 0
    """Draws the frames that clusters begin at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("count", 2), ("examples", 1)):
            if getattr(self, name) < least:
                where = f"field task.clusters.{name}"
                raise InputError(where, f"must be at least {least}", found=str(getattr(self, name)))

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes centres, mean and deviation to ``path``, and the share of the frames in each cluster.

        Raises:
            InputError: a recording that cannot be decoded, or fewer different frames than clusters.
        """
        from scipy.cluster.vq import kmeans2, vq

        rows = sampled(source, column, self.examples, self.front_end.sample_rate)
        frames = [
            np.asarray(with_slopes(jnp.asarray(features), jnp.asarray(real)), np.float64)[np.asarray(real)]
            for features, real in chunks(rows, self.front_end)
        ]
        values = np.concatenate(frames)
        values = values[:: -(-len(values) // MOST_FRAMES)]
        mean, std = values.mean(0), np.sqrt(np.maximum(values.var(0), 1e-8))
        scaled = (values - mean) / std
        if (different := len(np.unique(scaled, axis=0))) < self.count:
            raise InputError(
                "field task.clusters.count",
                f"is {self.count}, more than there are different frames.",
                found=f"{different:,} in {len(rows):,} recordings",
                fix=f"--task.clusters.count {max(different // 10, 2)}",
            )
        centres, labels = kmeans2(scaled, self.count, iter=30, minit="++", rng=np.random.default_rng(self.seed))
        labels, _ = vq(scaled, centres)
        content = {
            "centres": np.round(centres, 6).tolist(),
            "mean": np.round(mean, 6).tolist(),
            "std": np.round(std, 6).tolist(),
            "shares": np.round(np.bincount(labels, minlength=self.count) / len(labels), 6).tolist(),
        }
        path.write_text(json.dumps(content))

    def sizes(self) -> dict[str, int]:
        """``outputs``: clusters."""
        return {"outputs": self.count}

    @property
    def frequencies(self) -> np.ndarray:
        """(k,) share of the training frames in each cluster."""
        return _stored(self.file, changed(self.file))[3]

    def ids(
        self, audio: Float[Array, "b n *f"], mask: Bool[Array, "b n"]
    ) -> tuple[Int[Array, "b t"], Bool[Array, "b t"]]:
        """The nearest cluster of each frame, and which frames are real. Jitted, within loss and predict."""
        features, real = self.front_end(audio, mask) if audio.ndim == 2 else (audio, mask)
        centres, mean, std, _ = _stored(self.file, changed(self.file))
        scaled = (with_slopes(features, real) - mean) / std
        products = jnp.matmul(scaled, jnp.asarray(centres.T), precision="highest")
        return (jnp.square(centres).sum(-1) - 2 * products).argmin(-1).astype(jnp.int32), real


def with_slopes(features: Float[Array, "b t f"], real: Bool[Array, "b t"]) -> Float[Array, "b t 3f"]:
    """Features with their first and second differences over time, by regression over five frames as of HTK. Past its
    ends a recording goes on as its first and last frame."""
    slopes = _slopes(features, real)
    return jnp.concatenate([features, slopes, _slopes(slopes, real)], -1)


def _slopes(features: Array, real: Array) -> Array:
    last = jnp.maximum(real.sum(1, keepdims=True) - 1, 0)
    places = jnp.arange(features.shape[1])
    at = lambda shift: jnp.take_along_axis(features, jnp.clip(places + shift, 0, last)[..., None], 1)
    total = sum(shift * (at(shift) - at(-shift)) for shift in range(1, REACH + 1))
    return total / (2 * sum(shift**2 for shift in range(1, REACH + 1)))


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    def build(content: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.array(content[name], np.float32) for name in ("centres", "mean", "std", "shares"))

    return json_files.load(file, build)  # type: ignore[return-value]
