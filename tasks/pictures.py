"""Pictures of a task: decoding and augmentation, which all tasks on images share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from suite.codecs.columns import column
from suite.contracts.batch import Batch, Columns
from suite.data.augment import Named, named
from suite.data.preprocessing.decoded_images import decoded_images
from suite.data.preprocessing.image import Augmentation, PixelStatistics
from suite.evaluation.artifacts import Given, Image
from suite.evaluation.views import View, views


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The images of a task, uint8 until they are on the device, which normalises them."""

    image: str = "image"
    """Name of the image column."""
    statistics: PixelStatistics = field(default_factory=PixelStatistics)
    """Image size, channels, mean and deviation, learnt from the training split."""
    background: str = ""
    """Colour that transparent pictures are laid on, by name or as #rrggbb. Empty: that of ``statistics``, white."""
    augmentation: tuple[Named, ...] = ()
    """Applied in order to training images: shift (a few pixels), crop (half of the area at least), flip (left to
    right), none. They come before those of ``augment``."""
    augment: tuple[Augmentation, ...] = ()
    """Applied in order to training images; with settings of their own."""

    views: tuple[View, ...] = ()
    """Test-time augmentation: further views of each picture, whose answers are averaged where it is evaluated or
    predicted. flip: mirrored left to right; crops: four corners and the middle; close: the same, smaller. Each view
    costs a pass."""

    def __post_init__(self) -> None:
        if self.background:  # one colour for the statistics, training and requests
            object.__setattr__(self, "statistics", replace(self.statistics, background=self.background))

    @property
    def handling(self) -> tuple[str, int, int]:
        """Background, channels and white, as `without_broken_images` reads them."""
        return self.statistics.background, self.statistics.channels, self.statistics.white

    def pixels(self, columns: Columns, rng: np.random.Generator | None = None) -> np.ndarray:
        """Images uint8 (b, h, w, c), augmented where ``rng`` is given. Host."""
        images = decoded_images(self.statistics)(column(columns, self.image))
        if rng is not None:
            height, width, _ = self.statistics.shape
            for augmentation in (*named(self.augmentation, (height, width)), *self.augment):
                images = augmentation(images, rng)
        return images

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """The answer; with ``views`` the mean over them: of probabilities, or of numbers."""
        answer, averaged = super().predict, self.averaged  # type: ignore[misc, attr-defined]
        seen = views(batch["image"], self.views)
        if len(seen) == 1:
            return answer(model, batch, reference)
        return averaged(
            [answer(model, {**batch, "image": one}, reference) for one in seen], [1 / len(seen)] * len(seen)
        )

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: Image(batch["image"][i].copy())
