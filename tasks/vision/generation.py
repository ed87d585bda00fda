"""Image generation: pictures out of noise, of a class or of any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.generation import GeneratedImages
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.data.preprocessing.columns import origin, require, with_files, without_broken_images, without_missing_labels
from suite.data.preprocessing.labels import Labels
from suite.errors import InputError
from suite.tasks.vision.conditional_generation import Condition, ConditionalGeneration


@dataclass(frozen=True, kw_only=True)
class ImageGeneration(ConditionalGeneration):
    """Pictures of a class that is asked for, or of any."""

    conditions: ClassVar[tuple[str, ...]] = ("label",)
    kind: ClassVar[str] = "class"

    label: str = "label"
    """Name of the column of classes. Empty: pictures have none."""
    labels: Labels | None = field(default_factory=Labels)
    """Class names, learnt from the training split; None where ``label`` is empty."""
    label_dropout: float = 0.1
    """Share of training records whose class is withheld, so that the model knows both; guidance needs it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label and self.labels is not None:
            object.__setattr__(self, "labels", None)
        if self.label and self.labels is None:
            object.__setattr__(self, "labels", Labels())
        if not 0 <= self.label_dropout < 1:
            found = f"{self.label_dropout:g}"
            raise InputError("field task.label_dropout", "must be at least 0 and below 1", found=found)

    @property
    def codec(self) -> GeneratedImages:
        return GeneratedImages(
            label=self.label, labels=self.labels, steps=self.steps, most_steps=self.most_steps, guidance=self.guidance
        )

    @property
    def conditional(self) -> bool:
        return self.labels is not None

    @property
    def dropout(self) -> float:
        return self.label_dropout

    @property
    def split_data(self) -> Data:
        return self.data.with_classes(self.label) if self.label else self.data

    def source(self, split: str) -> Source:
        opened = self.split_data.open(split)
        named = {"image": self.image, **({"label": self.label} if self.label else {})}
        require(opened, named, origin(self.data))
        opened = with_files(opened, self.image, self.data)
        if self.label:
            opened = without_missing_labels(opened, self.label)
        opened = without_broken_images(opened, self.image, self.statistics.background, self.statistics.channels)
        return self.measurable(opened, split)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        features, lines = self._features, super().remarks(splits)
        if self.labels is not None and self.labels.file and features.classes:
            strange = sorted(set(self.labels.names) - set(features.classes))
            lines += [f"agreement is not measured: {features.name} has no class {strange[0]}"] if strange else []
        return lines

    def strata(self, source: Source) -> np.ndarray | None:
        if self.labels is None:
            return None
        return self.labels.encode(source.column(self.label, np.arange(len(source))))

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c), and with classes ``label`` int32 (b,); of requests what the codec makes of
        them."""
        if self.image not in columns:
            return self.codec.encode(columns)
        encoded: dict[str, Any] = {"image": self.pixels(columns, rng)}
        if self.labels is not None:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        return encoded

    @property
    def _none(self) -> int:
        """The class that stands for none."""
        return len(self.labels.names) if self.labels is not None else 0

    def condition(self, model: Any, batch: Batch) -> Condition:
        """Classes (b,); one that training doesn't have is none."""
        label = batch.get("label")
        return None if label is None else jnp.where((label < 0) | (label > self._none), self._none, label)

    def withheld(self, condition: Condition, rows: jax.Array) -> Condition:
        return jnp.where(rows, self._none, condition)

    def predicted(
        self, model: Any, noisy: jax.Array, time: jax.Array, condition: Condition, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        said: jax.Array = model(noisy, time, condition, rngs=rngs)
        return said

    def judged(self, made: jax.Array, real: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Whether pictures are judged to be of the record's class, where the classifier knows all classes."""
        known = self._features.classes
        if self.labels is None or not set(self.labels.names) <= set(known):
            return {}
        place = jnp.asarray([known.index(name) for name in self.labels.names])
        wanted = place[jnp.clip(batch["label"], 0, self._none - 1)]
        return {"agrees": made.argmax(-1) == wanted, "real_agrees": real.argmax(-1) == wanted}

    def titles(self, columns: Columns, batch: Batch) -> Sequence[str]:
        if self.labels is None:
            return [""] * len(batch["image"])
        known = [*self.labels.names, "class unknown to training"]
        return [known[place] for place in batch["label"]]
