"""Defaults of detectors: size of the canvas, augmentation and length of training, by the pictures and their boxes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.data.augment import Colour
from suite.data.box_augment import FlipBoxes, ScaleCrop
from suite.data.preprocessing.boxes import boxes_of
from suite.data.preprocessing.image import dimensions
from suite.data.sources.memory import evenly_spaced
from suite.tasks.vision.defaults import HANDED

SIZED = 500
"""Pictures whose size and boxes are looked at."""
SIDES = (256, 512)
"""Longer side of the canvas: what two cores train on in under an hour, and what small things may need."""
SEEN = 20.0
"""Pixels that the side of a small thing should have on the canvas: two and a half places of the finest level."""
SMALL = 0.1
"""Share of the things that are smaller than what is called small."""
EXAMPLES = 8000
"""Pictures that training sees, where that is not in fewer than the first number of epochs or more than the second."""
EPOCHS = (6, 60)


@dataclass(frozen=True)
class Look:
    """What pictures and boxes look like.

    Attributes:
        height, width: medians, in pixels.
        small: side of a small thing, the root of its box's area, as a share of its picture's longer side.
        boxes: median number of a picture.
        names: of classes that are seen.
    """

    height: int
    width: int
    small: float
    boxes: float
    names: tuple[str, ...]

    @classmethod
    def of(cls, source: Source, image: str, boxes: str) -> "Look":
        """A look at pictures that are evenly spaced over a split."""
        columns = source[evenly_spaced(source, SIZED)]
        sides = np.array([dimensions(value) for value in columns[image]])
        records = [boxes_of(value) for value in columns[boxes]]
        shares = [
            box.surface**0.5 / max(side) for side, record in zip(sides.tolist(), records, strict=True) for box in record
        ]
        height, width = np.median(sides, axis=0).astype(int).tolist()
        names = tuple(sorted({box.label for record in records for box in record}))
        small = float(np.quantile(shares, SMALL)) if shares else 1.0
        return cls(height, width, small, float(np.median([len(record) for record in records])), names)

    def canvas(self, coarsest: int) -> tuple[int, int]:
        """Height and width, multiples of the coarsest stride: as large as small things need within `SIDES`, and no
        larger than the pictures are."""
        low, high = SIDES
        longer = min(max(SEEN / self.small, low), high, max(self.height, self.width, low))
        scale = longer / max(self.height, self.width)
        height, width = (max(round(side * scale / coarsest), 1) * coarsest for side in (self.height, self.width))
        return height, width


@dataclass(frozen=True, kw_only=True)
class ByBoxes(Defaults):
    """By the size and shape of the pictures, the size of the boxes, the names of the classes and the number of
    records."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        task = experiment.task
        look = Look.of(train, task.image, task.boxes)
        height, width = task.statistics.size or look.canvas(max(getattr(experiment.model, "strides", (32,))))
        small = round(look.small * max(height, width))
        about = (
            f"pictures of {look.width} x {look.height} pixels with {look.boxes:.0f} boxes (medians); the side of a "
            f"small thing (one in ten is smaller) has {small} pixels on the canvas. Larger costs time and finds smaller"
        )
        yield Chosen("task.statistics.size", (height, width), about)
        handed = any(map(HANDED.search, look.names))
        mirrored = "names of classes tell left from right, so nothing is mirrored" if handed else ""
        why = mirrored or "mirrored, scaled, cut and coloured at random; classes that a mirror exchanges: in a recipe"
        changes = (ScaleCrop(smallest=0.7, largest=1.4), Colour())
        yield Chosen("task.augment", changes if handed else (FlipBoxes(), *changes), why)
        epochs = min(max(round(EXAMPLES / max(len(train), 1)), EPOCHS[0]), EPOCHS[1])
        yield Chosen("train.epochs", epochs, f"{len(train):,} pictures")
