"""Object detection: boxes around the things that a picture shows, each with a class and a score.

Dims: b pictures of h x w pixels, m places of boxes, k detections.
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.boxes import PictureBoxes
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task
from suite.data.augment import Augmentation
from suite.data.box_augment import BoxAugmentation
from suite.data.preprocessing.boxes import BoxLabels, without_unreadable_boxes
from suite.data.preprocessing.columns import origin, require, unread_columns, with_files, without_broken_images
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.least_score import LeastScore
from suite.data.preprocessing.scenes import box_remarks, scenes
from suite.data.preprocessing.tiles import Tiles
from suite.errors import InputError
from suite.evaluation.detection_artifacts import detection_artifacts
from suite.evaluation.losses import binary_distillation_loss, masked_mean, tally
from suite.evaluation.metrics.detection import best_score, detection_scores


@dataclass(frozen=True, kw_only=True)
class ObjectDetection(Task):
    """Pictures are letterboxed: scaled to fit a canvas of one size, with their aspect kept.

    The model says what a loss and an answer are made of, in pixels of the canvas: ``model(images, rows=, content=,
    rngs=)`` gives predictions, ``model.loss(predictions, boxes, labels, crowd, mask)`` the terms of the loss of each
    picture, and ``model.detections(predictions)`` boxes (b, k, 4), scores (b, k) and classes (b, k).
    """

    data: Data
    """Where the pictures and boxes come from."""
    image: str = "image"
    """Name of the image column."""
    boxes: str = "boxes"
    """Name of the column of boxes: a list a picture, of objects with box, [left, top, right, bottom] in pixels of the
    picture, and label."""
    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(channels=3))
    """Size and channels of the canvas, mean and deviation of the pixels."""
    labels: BoxLabels = field(default_factory=BoxLabels)
    """Classes, and how many boxes of a picture are learnt, from the training split."""
    augment: tuple[Augmentation | BoxAugmentation, ...] = ()
    """Applied in order to training pictures and their boxes."""
    threshold: float = 0.0
    """Least score of a box that a request is answered with, and that a report draws. 0: that of the best F1 on the
    validation split. Metrics count all boxes."""
    least_score: LeastScore = field(default_factory=LeastScore)
    """That score, learnt at the end of training."""
    most: int = 100
    """Most boxes of an answer."""
    tiles: Tiles = field(default_factory=Tiles)
    """How pictures that are much larger than those of training are cut, whose things would be too small on the canvas:
    requests are answered by the boxes of all tiles and of the whole. Metrics are of whole pictures."""

    @property
    def codec(self) -> PictureBoxes:
        return PictureBoxes(
            image=self.image,
            statistics=self.statistics,
            labels=self.labels,
            threshold=self.answered,
            most=self.most,
            tiles=self.tiles,
        )

    @property
    def answered(self) -> float:
        """Least score of a box that is answered."""
        return self.threshold or self.least_score.value

    @property
    def continuous(self) -> bool:
        return False

    def source(self, split: str) -> Source:
        opened = self.data.with_json((self.boxes,)).open(split)
        require(opened, {"image": self.image, "boxes": self.boxes}, origin(self.data))
        source = without_unreadable_boxes(opened, self.boxes)
        statistics = self.statistics
        source = with_files(source, self.image, self.data)
        return without_broken_images(source, self.image, statistics.background, statistics.channels, statistics.white)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = box_remarks(splits, self.boxes, self.labels)
        if "train" in splits:
            lines += unread_columns(splits["train"], {self.image, self.boxes, "file"}, self.data)
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """See `suite.data.preprocessing.scenes.scenes`."""
        return scenes(columns, self.image, self.boxes, self.statistics, self.labels, rng, self.augment)

    def predictions(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """What the model says of a batch. Jitted."""
        images = self.statistics.normalised(batch["image"])
        return model(images, rows=batch["mask"], content=batch["content"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        predictions = self.predictions(model, batch, rngs)
        terms = model.loss(predictions, batch["boxes"], batch["labels"], batch["crowd"], batch["mask"])
        losses = sum(terms.values())
        logged = {name: tally(values, batch["mask"]) for name, values in {"loss": losses, **terms}.items()}
        return masked_mean(losses, batch["mask"]), logged

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``boxes`` (b, k, 4) in pixels of the canvas, cut where the picture ends, ``scores`` (b, k), 0 where there is
        none, and ``labels`` int32 (b, k)."""
        boxes, scores, labels = model.detections(self.predictions(model, batch))
        low, high = jnp.split(batch["content"][:, None], 2, -1)
        boxes = jnp.clip(boxes, jnp.tile(low, 2), jnp.tile(high, 2))
        return {"boxes": boxes, "scores": scores, "labels": labels}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        return {**detection_scores(outputs, batch, self.labels.names)}

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """How far the classes of all places are apart, over the teacher's expected number of objects; of models that
        say the classes of the same places, each by itself."""
        if theirs["logits"].ndim != 3:
            problem = "says classes by queries, each in turn, which are of no place."
            raise InputError("flag --distill", problem, fix="a teacher and a student of suite.models.fcos")
        if ours["logits"].shape != theirs["logits"].shape:
            raise InputError(
                "flag --distill",
                "student and teacher say something of other places.",
                found=f"{ours['logits'].shape[1:]} and {theirs['logits'].shape[1:]}",
                fix="a student with the strides, the size of images and the classes of its teacher",
            )
        apart = binary_distillation_loss(ours["logits"], theirs["logits"], temperature).sum((1, 2))
        objects = jax.nn.sigmoid(theirs["logits"]).max(-1).sum(-1)
        return jnp.where(batch["mask"], apart / jnp.maximum(objects, 1), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        return detection_artifacts(columns, outputs, batch, self.labels.names, self.answered)

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        if self.threshold:
            return {}
        states = [detection_scores(outputs, batch, self.labels.names)["mAP"] for outputs, batch in evaluated]
        if not states:
            return {}
        score, precision, recall = best_score(functools.reduce(operator.add, states))
        if not score:
            return {}
        note = (
            f"Boxes are answered from a score of {score:.3f} on, which was best by F1 on validation: there "
            f"{precision:.1%} of the answers are right, and {recall:.1%} of the boxes found (or task.threshold)."
        )
        return {"least_score": Conclusion({"score": score, "notes": [note]}, (note,))}
