"""Defaults of image generation: size, channels, network and epochs, by the pictures."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.models.parts import Parts
from suite.runtime.files import is_run
from suite.tasks.vision.defaults import Look

EXAMPLES = 400_000
"""Pictures that training sees, where that is not in fewer than the first number of epochs or more than the second."""
EPOCHS = (5, 300)
PLACES = 16
"""Longer side in places up to which the first level keeps single pixels together no further."""
LEVELS = (64, 96, 128)
"""Channels of the levels."""


@dataclass(frozen=True, kw_only=True)
class GeneratedPictures(Defaults):
    """By the size and colours of the pictures, and the number of records."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        task, (where, model) = experiment.task, _network(experiment.model)
        look = Look.of(train, task.image)
        height, width = size = task.statistics.size or look.size
        yield Chosen("task.statistics.size", size, f"{look.about}, and at most as many pixels as 64 x 64 have")
        yield Chosen("task.statistics.channels", 1 if look.grey else 3, look.about)
        about = f"images of {width} x {height} pixels"
        patch = model.patch if getattr(model, "patch", 0) else _patch(height, width)
        if hasattr(model, "patch"):
            yield Chosen(f"{where}.patch", patch, about)
        if hasattr(model, "widths"):
            places = min(height, width) // patch
            levels = sum(places >= 4 << level for level in range(len(LEVELS)))
            yield Chosen(f"{where}.widths", LEVELS[: max(levels, 1)], about)
        epochs = max(min(round(EXAMPLES / max(len(train), 1)), EPOCHS[1]), EPOCHS[0])
        yield Chosen("train.epochs", epochs, f"{len(train):,} pictures")


@dataclass(frozen=True, kw_only=True)
class DescribedPictures(GeneratedPictures):
    """As `GeneratedPictures`; and where ``optim.frozen`` names all of an encoder of texts that begins with published
    weights, its vectors are computed once and kept."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        yield from super().choose(experiment, train)
        frozen = any(re.search(pattern, "text/") for pattern in experiment.optim.frozen)
        pooled = getattr(experiment.model.parts.get("text"), "pooling", "") == "mean"
        plain = experiment.finetune.kind in ("full", "head") and experiment.pipeline.workers == 0
        start = experiment.checkpoint.start("text")
        if frozen and pooled and plain and start and not is_run(start):
            yield Chosen("task.text_weights", start, "vectors are computed once, and kept in the cache")


def _network(model: Any) -> tuple[str, Any]:
    """Where the network of pictures stands in an experiment, and the network."""
    return ("model.parts.network", model.parts["network"]) if isinstance(model, Parts) else ("model", model)


def _patch(height: int, width: int) -> int:
    """The smallest of 1, 2 and 4 that leaves few places; one that divides both sides."""
    dividing = [side for side in (1, 2, 4) if height % side == 0 and width % side == 0]
    return next((side for side in dividing if max(height, width) // side <= PLACES), dividing[-1])
