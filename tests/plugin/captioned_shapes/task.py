"""Captions of pictures: whether a caption is the picture's own, and which picture of a catalogue fits it best."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from captioned_shapes.codecs import PictureOfCaption, PictureVector
from captioned_shapes.data import CAPTIONS, Shapes, catalogue
from captioned_shapes.towers import logits, unit
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Program, Task
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.image import PixelStatistics
from suite.evaluation.losses import binary_cross_entropy, binary_distillation_loss, masked_mean, tally

register_metric("coverage", "Share of the catalogue that is the best of some caption.", "higher", share=True)


@dataclass(frozen=True)
class Coverage(MetricState):
    """Share of the catalogue that comes first somewhere: no sum over records, so it has no interval.

    Attributes:
        total: (n,) whether an item came first.
        count: 1 a batch; not used.
    """

    by_record: ClassVar[bool] = False

    def __add__(self, other: MetricState) -> "Coverage":
        return Coverage(np.maximum(self.total, other.total), self.count)

    def value(self) -> float:
        return float(np.mean(self.total))


@dataclass(frozen=True, kw_only=True)
class PictureCaptions(Task):
    """Binary cross-entropy of pairs; the catalogue is the reference of every split."""

    data: Data = field(default_factory=Shapes)
    """Where the records come from."""
    image: str = "image"
    """Name of the column of pictures."""
    caption: str = "caption"
    """Name of the column of captions."""
    match: str = "match"
    """Name of the column that says whether they belong together."""
    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(column="image", part="image"))
    """Shape of the pictures, and their mean and deviation."""
    tokenizer: Characters = field(default_factory=lambda: Characters(column="caption", part="text"))
    """Characters of the captions."""

    @property
    def pictures(self) -> PictureVector:
        return PictureVector(image=self.image, statistics=self.statistics)

    @property
    def codec(self) -> PictureOfCaption:
        return PictureOfCaption(pictures=self.pictures, caption=self.caption, tokenizer=self.tokenizer)

    def source(self, split: str) -> Source:
        return self.data.open(split)

    def reference(self, split: str) -> Source | None:
        return catalogue()

    @property
    def catalogue(self) -> PictureVector:
        return self.pictures

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        encoded = self.codec.encode(columns)
        if self.match in columns:
            encoded["match"] = np.asarray(columns[self.match], np.float32)
        return encoded

    def _pixels(self, batch: Batch) -> jax.Array:
        return (batch["image"].astype(jnp.float32) / 255 - self.statistics.mean) / self.statistics.std

    def _vectors(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> Any:
        return model(self._pixels(batch), batch["tokens"], batch["tokens_mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        losses = binary_cross_entropy(logits(self._vectors(model, batch, rngs)), batch["match"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"vector": unit(model.image(self._pixels(batch))), "pixels": batch["image"]}

    def evaluate(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        image, text = self._vectors(model, batch)
        first = (text @ reference["vector"].T).argmax(1).astype(jnp.int32)
        return {"logit": logits((image, text)), "first": first}

    def predict(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        outputs = self.evaluate(model, batch, reference)
        return {"match": jax.nn.sigmoid(outputs["logit"]), "best": reference["pixels"][outputs["first"]]}

    def vector(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        """The picture's side alone."""
        return {"vector": unit(model.image(self._pixels(batch)))}

    def programs(self) -> dict[str, Program]:
        return {**super().programs(), "image": Program(self.vector, self.pictures)}

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Any = None) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        logit, match = np.asarray(outputs["logit"], np.float64)[mask], np.asarray(batch["match"])[mask]
        losses = np.logaddexp(0, logit) - match * logit
        seen = np.zeros(len(CAPTIONS))
        seen[np.asarray(outputs["first"])[mask]] = 1
        return {
            "accuracy": MetricState(float(((logit > 0) == (match == 1)).sum()), float(len(match))),
            "loss": MetricState(float(losses.sum()), float(len(match))),
            "coverage": Coverage(seen, np.float64(1)),
        }

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        return jnp.where(batch["mask"], binary_distillation_loss(logits(ours), logits(theirs), temperature), 0)
