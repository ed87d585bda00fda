"""Defaults of image generation: size, channels, network and epochs, by the pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
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
        task, model = experiment.task, experiment.model
        look = Look.of(train, task.image)
        height, width = size = task.statistics.size or look.size
        yield Chosen("task.statistics.size", size, f"{look.about}, and at most as many pixels as 64 x 64 have")
        yield Chosen("task.statistics.channels", 1 if look.grey else 3, look.about)
        about = f"images of {width} x {height} pixels"
        patch = model.patch if getattr(model, "patch", 0) else _patch(height, width)
        if hasattr(model, "patch"):
            yield Chosen("model.patch", patch, about)
        if hasattr(model, "widths"):
            places = min(height, width) // patch
            levels = sum(places >= 4 << level for level in range(len(LEVELS)))
            yield Chosen("model.widths", LEVELS[: max(levels, 1)], about)
        epochs = max(min(round(EXAMPLES / max(len(train), 1)), EPOCHS[1]), EPOCHS[0])
        yield Chosen("train.epochs", epochs, f"{len(train):,} pictures")


def _patch(height: int, width: int) -> int:
    """The smallest of 1, 2 and 4 that leaves few places; one that divides both sides."""
    dividing = [side for side in (1, 2, 4) if height % side == 0 and width % side == 0]
    return next((side for side in dividing if max(height, width) // side <= PLACES), dividing[-1])
