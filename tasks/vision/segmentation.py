"""Semantic segmentation: a class for each pixel of a picture.

Dims: b pictures of h x w pixels, n classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.masks import PictureMasks
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.augment import Augmentation
from suite.data.box_augment import Move
from suite.data.geometry import moved_images
from suite.data.preprocessing.columns import origin, require, unread_columns, with_files, without_broken_images
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.letterbox import GREY, letterboxes
from suite.data.preprocessing.masks import IGNORED, MaskLabels, letterboxed_masks, mask_faults, mask_remarks
from suite.data.preprocessing.tiles import Tiles
from suite.data.sources.memory import cleaned
from suite.errors import InputError
from suite.evaluation.losses import distillation_loss, masked_mean, tally
from suite.evaluation.metrics.segmentation import segmentation_scores
from suite.evaluation.segmentation_artifacts import segmentation_artifacts


@dataclass(frozen=True, kw_only=True)
class SemanticSegmentation(Task):
    """Pictures are letterboxed: scaled to fit a canvas of one size, with their aspect kept. What is around them, and
    pixels of no class, count nowhere. Metrics are of the pixels of the canvas, answers as large as the picture."""

    data: Data
    """Where the pictures and masks come from."""
    image: str = "image"
    """Name of the image column."""
    mask: str = "mask"
    """Name of the column of masks: PNGs of the numbers of classes, 255 where a pixel is of none, or their paths."""
    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(channels=3))
    """Size and channels of the canvas, mean and deviation of the pixels."""
    labels: MaskLabels = field(default_factory=MaskLabels)
    """Classes, from the training split."""
    augment: tuple[Augmentation | Move, ...] = ()
    """Applied in order to training pictures; masks move with their pictures."""
    dice_weight: float = 0.5
    """Weight of the Dice loss (arXiv 1606.04797) of the classes that a picture has, beside 1 of the cross-entropy."""
    tiles: Tiles = field(default_factory=Tiles)
    """How pictures that are much larger than those of training are cut: requests are answered by the weighted logits of
    all tiles. Metrics are of whole pictures."""

    def __post_init__(self) -> None:
        if self.dice_weight < 0:
            raise InputError("field task.dice_weight", "must not be negative", found=str(self.dice_weight))

    @property
    def codec(self) -> PictureMasks:
        return PictureMasks(image=self.image, statistics=self.statistics, labels=self.labels, tiles=self.tiles)

    @property
    def protocol(self) -> str:
        height, width, _ = self.statistics.shape
        return f"pixels of pictures that are scaled to fit in {width} x {height}"

    def source(self, split: str) -> Source:
        opened = self.data.open(split)
        require(opened, {"image": self.image, "mask": self.mask}, origin(self.data))
        source = with_files(with_files(opened, self.image, self.data), self.mask, self.data)
        source = cleaned(source, mask_faults(source, self.image, self.mask))
        if not len(source):
            raise InputError(
                f"column {self.mask}",
                "no record has a mask of its picture.",
                found="; ".join(f"{count:,} with {reason}" for reason, count in source.dropped.items()),
                fix="PNGs of the numbers of classes, as large as their pictures, or another column by --task.mask",
            )
        statistics = self.statistics
        return without_broken_images(source, self.image, statistics.background, statistics.channels, statistics.white)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = mask_remarks(splits, self.mask, self.labels)
        if "train" in splits:
            lines += unread_columns(splits["train"], {self.image, self.mask, "file"}, self.data)
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), and of records with masks ``classes`` uint8 (b, h, w), 255 where a pixel does
        not count."""
        images, _ = letterboxes(self.statistics)(columns[self.image])
        if self.mask not in columns:
            return {"image": images}
        size = images.shape[1], images.shape[2]
        classes = letterboxed_masks(columns[self.mask], size, len(self.labels.names))
        if rng is None:
            return {"image": images, "classes": classes}
        for change in self.augment:
            if isinstance(change, Move):
                moves = change.moves(len(images), size, rng)
                images = moved_images(images, moves, GREY)
                classes = moved_images(classes, moves, IGNORED, nearest=True)
            else:
                images = change(images, rng)
        return {"image": images, "classes": classes}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(b, h, w, n). Jitted."""
        return model(self.statistics.normalised(batch["image"]), rows=batch["mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        counted = batch["classes"] < logits.shape[-1]
        wanted = jax.nn.one_hot(batch["classes"], logits.shape[-1]) * counted[..., None]
        nats = -(jax.nn.log_softmax(logits) * wanted).sum((1, 2, 3)) / jnp.maximum(counted.sum((1, 2)), 1)
        terms = {"cross_entropy": nats}
        if self.dice_weight:
            terms["dice_loss"] = self.dice_weight * _dice(jax.nn.softmax(logits) * counted[..., None], wanted)
        losses = sum(terms.values(), jnp.zeros(len(nats)))
        logged = {name: tally(values, batch["mask"]) for name, values in {"loss": losses, **terms}.items()}
        return masked_mean(losses, batch["mask"]), logged

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``classes`` uint8 (b, h, w), and where large pictures are cut into tiles ``logits`` (b, h, w, n)."""
        logits = self.logits(model, batch)
        classes = {"classes": logits.argmax(-1).astype(jnp.uint8)}
        return classes if self.tiles.size is None else {**classes, "logits": logits}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``classes``, as `predict`: logits of a split would fill memory."""
        return {"classes": self.predict(model, batch)["classes"]}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        rows = np.asarray(batch["mask"])
        answered, wanted = np.asarray(outputs["classes"])[rows], np.asarray(batch["classes"])[rows]
        return segmentation_scores(answered, wanted, self.labels.names)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """The mean over the pixels that count."""
        counted = batch["classes"] < theirs.shape[-1]
        apart = (distillation_loss(ours, theirs, temperature) * counted).sum((1, 2))
        return jnp.where(batch["mask"], apart / jnp.maximum(counted.sum((1, 2)), 1), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        return segmentation_artifacts(np.asarray(outputs["classes"]), batch, self.labels.names)


def _dice(shares: jax.Array, wanted: jax.Array) -> jax.Array:
    """1 - Dice coefficient (b,) of the probabilities and classes (b, h, w, n) of the pixels that count, the mean over
    the classes that a picture has."""
    there = wanted.sum((1, 2))
    common = (shares * wanted).sum((1, 2))
    apart = 1 - (2 * common + 1) / (shares.sum((1, 2)) + there + 1)
    present = there > 0
    return (apart * present).sum(-1) / jnp.maximum(present.sum(-1), 1)
