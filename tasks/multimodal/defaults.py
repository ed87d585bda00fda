"""Defaults of dual encoders: which encoders are frozen, by ``optim.frozen``, and whose vectors are kept."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.runtime.files import is_run

SIDES = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class FrozenEncoders(Defaults):
    """An encoder all of whose parameters ``optim.frozen`` names gives its vectors as in prediction; those of published
    weights are computed once and kept."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        optim, task = experiment.optim, experiment.task
        frozen = tuple(side for side in SIDES if any(re.search(pattern, f"{side}/") for pattern in optim.frozen))
        if experiment.finetune.kind not in ("full", "head"):
            frozen = ()  # what is added to an encoder is trained
        kept = {}
        for side in frozen:
            start = experiment.checkpoint.start(side)
            plain = side == "text" or not (task.augmentation or task.augment)
            if start and not is_run(start) and plain and experiment.pipeline.workers == 0:
                kept[side] = start
        yield Chosen("task.frozen", frozen, f"optim.frozen names all of {' and '.join(frozen)}" if frozen else "")
        if kept:
            yield Chosen("task.kept", kept, f"vectors of {' and '.join(kept)} are computed once, and kept in the cache")
