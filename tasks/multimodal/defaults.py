"""Defaults of dual encoders: which encoders are frozen, by ``optim.frozen``, and whose vectors are kept."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.runtime.files import is_run


@dataclass(frozen=True, kw_only=True)
class FrozenEncoders(Defaults):
    """An encoder all of whose parameters ``optim.frozen`` names gives its vectors as in prediction; those of published
    weights are computed once and kept."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        optim, task = experiment.optim, experiment.task
        frozen = tuple(
            side for side in (task.side, "text") if any(re.search(pattern, f"{side}/") for pattern in optim.frozen)
        )
        if experiment.finetune.kind not in ("full", "head"):
            frozen = ()  # what is added to an encoder is trained
        yield Chosen("task.frozen", frozen, f"optim.frozen names all of {' and '.join(frozen)}" if frozen else "")
        for side in frozen:
            start = experiment.checkpoint.start(side)
            if side == "audio":
                continue  # whose vectors are computed anew: recordings are of any length
            plain = side == "text" or not (task.augmentation or task.augment)
            part = experiment.model.parts.get(side)  # whose vectors are those of the weights alone, without a head
            pooled = part is not None and (side == "image" or getattr(part, "pooling", "") == "mean")
            if start and not is_run(start) and plain and pooled and experiment.pipeline.workers == 0:
                yield Chosen(f"task.{side}_weights", start, "vectors are computed once, and kept in the cache")
