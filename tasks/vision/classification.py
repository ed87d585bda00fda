"""Image classification: one of several classes for each image."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.image import ImageClasses
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.columns import origin, require, with_files, without_broken_images
from suite.data.preprocessing.image import Mixup
from suite.evaluation.classification import Classification
from suite.evaluation.losses import classification_loss
from suite.tasks.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Pictures, Classification):
    """Each image is of one class. It stays uint8 until it is on the device."""

    data: Data
    """Where the images come from."""
    mixup: float = 0.0
    """Alpha of mixup (arXiv 1710.09412). 0: off."""

    @property
    def codec(self) -> ImageClasses:
        return ImageClasses(image=self.image, statistics=self.statistics, **self.answering)

    @property
    def coupled(self) -> str:
        return "images are mixed with each other (task.mixup)" if self.mixup else ""

    def source(self, split: str) -> Source:
        opened = self.data.with_classes(self.label).open(split)
        require(opened, {"image": self.image, "label": self.label}, origin(self.data))
        labelled = self.labelled(with_files(opened, self.image, self.data), split)
        return without_broken_images(labelled, self.image, *self.handling)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c) and ``label`` int32 (b,); with mixup ``other_label`` and ``weight``."""
        encoded: dict[str, Any] = {"image": self.pixels(columns, rng)}
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        if rng is not None and self.mixup:
            mixed = Mixup(self.mixup).mix(encoded["image"], encoded["label"], rng)
            encoded["image"], encoded["label"], encoded["other_label"], encoded["weight"] = mixed
        return encoded

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(self.statistics.normalised(batch["image"]), rows=batch["mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        losses = self.cross_entropy(logits, batch["label"])
        if "other_label" in batch:
            other = self.cross_entropy(logits, batch["other_label"])
            losses = batch["weight"] * losses + (1 - batch["weight"]) * other
        return classification_loss(logits, losses, batch)
