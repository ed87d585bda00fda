"""Image classification: one of several classes for each image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.image import ImageClasses
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.columns import origin, require, without_broken_images
from suite.data.preprocessing.image import Augmentation, Mixup, PixelStatistics
from suite.evaluation.artifacts import Given, Image
from suite.evaluation.classification import Classification
from suite.evaluation.losses import classification_loss


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Classification):
    """Images stay uint8 until they are on the device; ``loss`` and ``predict`` normalise them there, jitted."""

    data: Data
    """Where the images come from."""
    image: str = "image"
    """Name of the image column."""
    statistics: PixelStatistics = field(default_factory=PixelStatistics)
    """Image size, channels, mean and deviation, learnt from the training split."""
    background: str = ""
    """Colour that transparent pictures are laid on, by name or as #rrggbb. Empty: that of ``statistics``, white."""
    augment: tuple[Augmentation, ...] = ()
    """Applied in order to training images."""
    mixup: float = 0.0
    """Alpha of mixup (arXiv 1710.09412). 0: off."""

    def __post_init__(self) -> None:
        if self.background:  # one colour for the statistics, training and requests
            object.__setattr__(self, "statistics", replace(self.statistics, background=self.background))

    @property
    def codec(self) -> ImageClasses:
        return ImageClasses(image=self.image, statistics=self.statistics, **self.answering)

    def source(self, split: str) -> Source:
        opened = self.data.with_classes(self.label).open(split)
        require(opened, {"image": self.image, "label": self.label}, origin(self.data))
        labelled, statistics = self.labelled(opened, split), self.statistics
        return without_broken_images(labelled, self.image, statistics.background, statistics.channels)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c) and ``label`` int32 (b,); with mixup ``other_label`` and ``weight``."""
        images = self.codec.encode(columns)["image"]
        encoded: dict[str, Any] = {}
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        if rng is not None:
            for augmentation in self.augment:
                images = augmentation(images, rng)
            if self.mixup:
                mixed = Mixup(self.mixup).mix(images, encoded["label"], rng)
                images, encoded["label"], encoded["other_label"], encoded["weight"] = mixed
        return {"image": images, **encoded}

    def normalise(self, images: jax.Array) -> jax.Array:
        """uint8 (b, h, w, c) -> float32 of zero mean and unit deviation a channel over the training split."""
        scale = 1 / (255 * self.statistics.std)
        return images.astype(jnp.float32) * scale - self.statistics.mean / self.statistics.std

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(self.normalise(batch["image"]), rows=batch["mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        losses = self.cross_entropy(logits, batch["label"])
        if "other_label" in batch:
            other = self.cross_entropy(logits, batch["other_label"])
            losses = batch["weight"] * losses + (1 - batch["weight"]) * other
        return classification_loss(logits, losses, batch)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: Image(batch["image"][i].copy())
