"""Image-text matching: pictures and texts as vectors in one space, near each other where they belong together."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from suite.codecs.matching import CataloguePicture, PictureLabels, RankedPictures
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import without_broken_images
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.picture_names import PictureNames
from suite.data.sources.captions import PICTURES, identity
from suite.evaluation.artifacts import Given, Image
from suite.evaluation.views import View, mean_over_views
from suite.tasks.kept_vectors import Kept
from suite.tasks.multimodal.dual_encoder import NAME, Matching, Side
from suite.tasks.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class ImageTextMatching(Matching, Pictures):
    """A dual encoder: one of pictures, one of texts, and heads that bring both into one space (CLIP, SigLIP, LiT)."""

    side: ClassVar[Side] = "image"
    things: ClassVar[str] = PICTURES

    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(part="image"))
    """Image size, channels, mean and deviation: of the weights of the image encoder, or of the training split."""
    pictures: PictureNames = field(default_factory=PictureNames)
    """Names of the pictures of the training split, the catalogue of prediction."""
    image_weights: str = ""
    """Published weights that the encoder of pictures is frozen at: its vectors are computed once, and kept. Empty: by
    checkpoint.init_from and optim.frozen."""
    prompt: str = "a photo of {}."

    @property
    def codec(self) -> RankedPictures:
        return RankedPictures(
            text=self.text, tokenizer=self.tokenizer, max_length=self.max_length, pictures=self.pictures
        )

    @property
    def catalogue(self) -> CataloguePicture:
        return CataloguePicture(image=self.image, statistics=self.statistics, name=NAME)

    @property
    def judge(self) -> PictureLabels:
        return PictureLabels(
            image=self.image,
            statistics=self.statistics,
            prompt=self.prompt,
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            alone=self.objective == "sigmoid",
        )

    def usable(self, records: Source) -> Source:
        return without_broken_images(records, self.image, *self.handling)

    def media(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), or where vectors are kept ``image_vector`` float32 (b, i)."""
        kept = self._kept_images
        if kept is None:
            return {"image": self.pixels(columns, rng)}
        values = columns[self.image]
        rows = lambda places: self.pixels({self.image: [values[place] for place in places]})
        return {"image_vector": kept([identity(value) for value in values], rows)}

    @property
    def _kept_images(self) -> Kept | None:
        if not self.image_weights or not self.tokenizer.file:
            return None
        return _kept_images(self.image_weights, self.statistics, self.views)

    def encoded(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """The mean over ``views``, but where the encoder is trained."""
        encode = lambda images: model.image(self.statistics.normalised(images), rows=batch["mask"], rngs=rngs)
        return mean_over_views(encode, batch["image"], () if rngs is not None else self.views)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        pixels = batch.get("image")
        if pixels is None:
            pixels = self.pixels(columns)
        return lambda place: Image(np.asarray(pixels[place]))


@functools.lru_cache(maxsize=4)
def _kept_images(source: str, statistics: PixelStatistics, names: tuple[View, ...]) -> Kept:
    about = repr((statistics.shape, statistics.mean.tolist(), statistics.std.tolist(), statistics.background, *names))
    encode = lambda model, images: mean_over_views(lambda view: model(statistics.normalised(view)), images, names)
    return Kept(source, {"outputs": 0}, encode, about)
