"""Audio classification: one of several classes for each recording, such as a keyword."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.audio import AudioClasses
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.audio import Perturbation, perturbed, require_audio, without_unusable
from suite.data.preprocessing.columns import with_files
from suite.data.recordings import decode
from suite.evaluation.artifacts import Given, Sound
from suite.evaluation.classification import Classification
from suite.evaluation.losses import classification_loss
from suite.nn.audio.spectral import SpecAugment
from suite.tasks.audio_features import AudioFeatures


@dataclass(frozen=True, kw_only=True)
class AudioClassification(Classification):
    """Recordings are padded as samples, and become features on the device. The model gives logits a recording."""

    data: Data
    """Where the recordings come from."""
    audio: str = "audio"
    """Name of the column of recordings."""
    features: AudioFeatures = field(default_factory=AudioFeatures)
    """Sample rate, front end, mean and deviation, learnt from the training split."""
    augment: tuple[Perturbation, ...] = ()
    """Applied in order to the samples of training recordings."""
    spec_augment: SpecAugment | None = None
    """Stretches of time and frequency that training hides."""
    max_seconds: float = 30.0
    """Longer recordings are left out, and refused in a request."""

    @property
    def codec(self) -> AudioClasses:
        return AudioClasses(audio=self.audio, recordings=self.features.recordings(self.max_seconds), **self.answering)

    def source(self, split: str) -> Source:
        opened = self.data.with_classes(self.label).open(split)
        require_audio(opened, {"audio": self.audio, "label": self.label}, self.data)
        front_end = self.features.front_end
        return without_unusable(
            self.labelled(with_files(opened, self.audio, self.data), split),
            self.audio,
            front_end.sample_rate,
            front_end.hop,
            self.max_seconds,
        )

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``audio`` float32 Ragged of samples or stored features, and ``label`` int32 (b,)."""
        audio = self.codec.encode(columns)["audio"]
        encoded: dict[str, Any] = dict(perturbed(audio, self.augment, self.features.rate, rng))
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        return encoded

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        frames, mask = self.features.frames(batch["audio"], batch["audio_mask"])
        if rngs is not None and self.spec_augment is not None:
            frames = self.spec_augment(frames, mask, rngs.dropout())
        return model(frames, mask, rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        losses = self.cross_entropy(logits, batch["label"])
        return classification_loss(logits, losses, batch)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: Sound(decode(columns[self.audio][i], self.features.rate), self.features.rate)
