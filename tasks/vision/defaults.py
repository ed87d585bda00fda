"""Defaults of small residual networks: size, channels, augmentation, network and epochs, by the pictures."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.data.preprocessing.image import MODES, dimensions, is_grey
from suite.data.sources.memory import evenly_spaced
from suite.data.suggestion import same_records
from suite.evaluation.embedding import EmbeddingDefaults
from suite.runtime import json_files

SIZED, COLOURED = 1000, 100
"""Pictures whose size, and whose colours, are looked at."""
PIXELS = 64 * 64
"""Most pixels of an image: what it shows can still be told, and a step of training takes some hundred milliseconds on
two cores."""
LEAST = 8
"""Least height and width."""
EVEN = 8
"""Sides of pictures that are scaled down are multiples of it."""
ALIKE = 0.15
"""Largest spread of the logarithm of width to height, between quartiles, of pictures that are of one shape."""
TINY, SMALL = 20, 40
"""Longer sides up to which the stem keeps every place, and up to which it pools after looking at every place: a stride
would miss strokes of one or two pixels."""
EXAMPLES = 432_000
"""Pictures that training sees, where that is not in fewer than the first number of epochs or more than the second: on
two cores some minutes of small pictures."""
EPOCHS = (8, 100)
FEW = 20_000
"""Photos below which published weights, which have seen a million, mostly answer better."""
HANDED = re.compile(r"(^|[^a-z])(left|right|clockwise|east|west)([^a-z]|$)", re.I)
"""Names of classes that a mirror exchanges."""
SIGN = re.compile(r"(digit|letter|char|number|class|sample)?[ _-]*(\d{1,2}|\w)", re.I)
"""Names of digits and letters, which a mirror spoils; or nothing but numbers, which don't tell what they are of."""


@dataclass(frozen=True)
class Look:
    """What pictures look like.

    Attributes:
        height, width: medians.
        alike: whether they are of one shape.
        grey: whether none of those looked at shows a colour.
    """

    height: int
    width: int
    alike: bool
    grey: bool

    @classmethod
    def of(cls, source: Source, column: str) -> "Look":
        """A look at pictures that are evenly spaced over a split."""
        images = source.column(column, evenly_spaced(source, SIZED))
        sides = np.array([dimensions(image) for image in images])
        height, width = np.median(sides, axis=0).astype(int).tolist()
        low, high = np.quantile(np.log(sides[:, 1] / sides[:, 0]), (0.25, 0.75))
        grey = all(map(is_grey, source.column(column, evenly_spaced(source, COLOURED))))
        return cls(height, width, bool(high - low <= ALIKE), grey)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width to scale to: the median, or less where that has more than `PIXELS`; a square where shapes
        differ."""
        height, width = (float(self.height), float(self.width))
        if not self.alike:
            height = width = (height * width) ** 0.5
        if height * width <= PIXELS:
            return max(round(height), LEAST), max(round(width), LEAST)
        scale = (PIXELS / (height * width)) ** 0.5
        return tuple(max(round(side * scale / EVEN) * EVEN, LEAST) for side in (height, width))  # type: ignore[return-value]

    @property
    def about(self) -> str:
        """For people."""
        shape = "" if self.alike else ", of different shapes"
        return f"{'grey' if self.grey else 'colour'} pictures of {self.width} x {self.height} pixels{shape} (median)"


@dataclass(frozen=True, kw_only=True)
class ByPictures(Defaults):
    """By the size, shape and colours of the pictures, the names of the classes and the number of records."""

    places_count: bool = False
    """Whether what is predicted may depend on where things are and which way they face, as a number may: nothing is
    moved or mirrored then."""
    whole: bool = False
    """Whether all that a picture shows counts, as where it has several labels: nothing is cut off then."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        task, start = experiment.task, experiment.checkpoint.start()
        look = Look.of(train, task.image)
        height, width = size = task.statistics.size or look.size
        channels = task.statistics.channels or (1 if look.grey else 3)
        if not start:  # of weights, pictures are given as these were trained
            yield Chosen("task.statistics.size", size, f"{look.about}, and at most as many pixels as 64 x 64 have")
            yield Chosen("task.statistics.channels", channels, look.about)
        if not task.augment:
            yield self._augmentation(max(size), channels, _names(task, train))
        records, about = f"{len(train):,} pictures", f"images of {width} x {height} pixels"
        advice = f"{records}, from scratch; {_better(task)}" if not start and _is_few(task, look, train) else ""
        yield from _network(experiment.model, _of_run(start), max(size), about, advice)
        epochs = max(min(round(EXAMPLES / max(len(train), 1)), EPOCHS[1]), EPOCHS[0])
        yield Chosen("train.batch_size", 32 if len(train) < 1000 else 64 if len(train) < 10_000 else 128, records)
        yield Chosen("train.epochs", epochs, records)
        yield Chosen("train.patience", max(EPOCHS[0], epochs // 4))

    def _augmentation(self, side: int, channels: int, names: Sequence[str]) -> Chosen:
        field = "task.augmentation"
        if self.places_count:
            why = "a number may depend on place and side; where it doesn't: --task.augmentation shift flip"
            return Chosen(field, ("none",), why)
        moved = "shift" if self.whole or side <= SMALL else "crop"
        mirrored = f"where a mirror image is of the same class: --{field} {moved} flip"
        if any(map(HANDED.search, names)):
            return Chosen(field, (moved,), f"names of classes tell left from right; {mirrored}")
        if names and sum(bool(SIGN.fullmatch(name)) for name in names) > len(names) / 2:
            return Chosen(field, (moved,), f"classes named as digits and letters are; {mirrored}")
        if channels == min(MODES) and side <= SMALL:
            return Chosen(field, (moved,), f"small grey pictures may be of digits or letters; {mirrored}")
        why = f"where classes differ by left and right: --{field} {moved}"
        return Chosen(field, (moved, "flip"), why)


def _names(task: Any, train: Source) -> list[str]:
    """Names of the classes or labels, as the data have them."""
    column = getattr(task, "label", "") or getattr(task, "target", "")
    if not column:
        return []
    if column in train.classes:
        return list(train.classes[column])
    return sorted({str(value) for value in train.column(column, evenly_spaced(train, SIZED))})


def _of_run(start: str) -> dict[str, Any]:
    """The model of a run that training starts from, of several parts that of images; empty where it starts from no
    run."""
    file = Path(start, "experiment.json")
    stored = json_files.read_object(file) if start and file.is_file() else {}
    model = dict(stored.get("model", {}))
    return dict(model.get("parts", {}).get("image", model))


def _is_few(task: Any, look: Look, train: Source) -> bool:
    """Whether a recipe that starts from published weights, of classifiers of photos, would do better."""
    return hasattr(task, "labels") and len(train) < FEW and max(look.height, look.width) > SMALL


def _better(task: Any) -> str:
    """That recipe, as a command on the same records."""
    words = same_records(task.data, {"image": task.image, "label": task.label})
    command = ["suite", "train", "vision.finetune", *words]
    return f"published weights, which have seen a million photos, mostly answer better: {shlex.join(command)}"


def _network(
    model: Any, theirs: dict[str, Any], side: int, about: str, advice: str, where: str = "model"
) -> Iterable[Chosen]:
    """The fields that a residual network leaves open; of another model none.

    Args:
        model: as the recipe has it.
        theirs: the model of the run that training starts from.
        side: longer side of the images.
        about: that, for people.
        advice: told with the widths.
        where: the field that holds the model.
    """
    stages = len(getattr(model, "widths", ()) or getattr(model, "blocks", ())) or 3
    fields = {
        "stem_stride": (1 if side <= SMALL else 2, about),
        "stem_pool": (TINY < side <= SMALL, ""),
        "stem_width": (32, ""),
        "blocks": ((1,) * stages, ""),
        "widths": (tuple(32 << place for place in range(stages)), advice),
    }
    for name, (value, why) in fields.items():
        if hasattr(model, name):
            stored = theirs.get(name, value)
            yield Chosen(f"{where}.{name}", tuple(stored) if isinstance(stored, list) else stored, why)


@dataclass(frozen=True, kw_only=True)
class EmbeddedPictures(ByPictures):
    """Of vectors: by the pictures, and the metric that chooses the checkpoint."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        yield from EmbeddingDefaults().choose(experiment, train)
        yield from super().choose(experiment, train)


@dataclass(frozen=True, kw_only=True)
class UnlabelledPictures(Defaults):
    """Of pre-training: by the pictures and their number. The part ``image`` of the model looks at them."""

    examples: int = 600_000
    """Pictures that training sees, where that is not in fewer than 10 epochs or more than 200."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        """Size, channels, network, batch size and epochs."""
        task, start = experiment.task, experiment.checkpoint.start("image")
        look = Look.of(train, task.image)
        height, width = size = task.statistics.size or self._size(experiment.model.parts["image"], look)
        if not start:
            yield Chosen("task.statistics.size", size, f"{look.about}, and at most as many pixels as 64 x 64 have")
            yield Chosen("task.statistics.channels", 1 if look.grey else 3, look.about)
        about = f"images of {width} x {height} pixels"
        yield from _network(experiment.model.parts["image"], {}, max(size), about, "", "model.parts.image")
        records = f"{len(train):,} pictures"
        epochs = max(min(round(self.examples / max(len(train), 1)), 200), 10)
        yield Chosen("train.batch_size", 64 if len(train) < 1000 else 128 if len(train) < 5000 else 256, records)
        yield Chosen("train.epochs", epochs, records)

    @staticmethod
    def _size(model: Any, look: Look) -> tuple[int, int]:
        """Of pictures that are cut into patches, whole patches."""
        patch = getattr(model, "patch", 1)
        height, width = (max(round(side / patch), 2) * patch if patch > 1 else side for side in look.size)
        return height, width
