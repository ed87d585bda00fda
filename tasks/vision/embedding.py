"""Image embedding: a vector for each image, near those of the images that belong to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.vectors import ImageVectors
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, with_files, without_broken_images
from suite.evaluation.artifacts import Given
from suite.evaluation.contrast import unit
from suite.evaluation.embedding import Embedding
from suite.evaluation.vector_map import thumbnail
from suite.evaluation.views import mean_over_views
from suite.tasks.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class ImageEmbedding(Pictures, Embedding):
    """Images stay uint8 until they are on the device, which normalises them."""

    other: str = ""
    """Name of a column of partners, which are to be near. Empty: images of one label are."""
    label: str = "label"
    """Name of the column of labels: images of one label are to be near each other."""
    temperature: float = 0.1
    """What cosines are divided by in the loss."""

    @property
    def content(self) -> str:
        return self.image

    @property
    def codec(self) -> ImageVectors:
        return ImageVectors(image=self.image, statistics=self.statistics)

    def source(self, split: str) -> Source:
        opened = (self.data if self.other else self.data.with_classes(self.label)).open(split)
        self.check_fields(origin(self.data), opened, "image")
        for name in (self.image, self.other) if self.other else (self.image,):
            opened = with_files(opened, name, self.data)
            opened = without_broken_images(opened, name, *self.handling)
        return self.paired(opened)

    def rows(self, values: Any, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c)."""
        return {"image": self.pixels({self.image: values}, rng)}

    def hidden(self, model: Any, batch: Batch, side: str, rngs: nnx.Rngs | None = None) -> jax.Array:
        """With ``views``, outside training, the mean of the vectors of length one of all views."""
        vectors = lambda seen: model(self.statistics.normalised(seen), rows=batch["mask"], rngs=rngs)
        images = batch[f"{side}image"]
        if rngs is not None or not self.views:
            return vectors(images)
        return mean_over_views(lambda seen: unit(vectors(seen)), images, self.views)

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return Embedding.predict(self, model, batch, reference)  # of `hidden`, which averages

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: thumbnail(batch["image"][i])
