"""Image prediction: a number, one of several classes, ordered or not, or several labels for each image."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.image import ImagePredictions
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, require, with_files, without_broken_images
from suite.evaluation.prediction import Prediction
from suite.tasks.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class ImagePrediction(Pictures, Prediction):
    """What is predicted stands in a column of its own, beside the images or the paths of their files."""

    @property
    def codec(self) -> ImagePredictions:
        return ImagePredictions(image=self.image, statistics=self.statistics, **self.answering)

    def source(self, split: str) -> Source:
        opened = self.opened(self.data, split)
        require(opened, {"image": self.image, "target": self.target}, origin(self.data))
        located = with_files(opened, self.image, self.data)
        return without_broken_images(located, self.image, *self.handling)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), and ``target`` as `Target.encode` says."""
        return {"image": self.pixels(columns, rng), **self.encoded_target(columns, rng)}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(self.statistics.normalised(batch["image"]), rows=batch["mask"], rngs=rngs)
