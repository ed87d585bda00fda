"""Callback: code of one's own that training calls, named in ``Experiment.callbacks``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["finished", "interrupted", "failed"]
"""How a training came to its end."""


@dataclass(frozen=True)
class Started:
    """A training begins, or goes on.

    Attributes:
        experiment: the Experiment, with its preprocessors fitted.
        folder: the run folder.
        step: steps taken before; 0 where it begins.
        steps: optimiser steps of the whole run.
    """

    experiment: Any
    folder: Path
    step: int
    steps: int


@dataclass(frozen=True)
class Logged:
    """A line was logged.

    Attributes:
        step: steps taken.
        metrics: ``"train/<name>"`` -> mean over the steps since the last line.
    """

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Evaluated:
    """The validation split was evaluated.

    Attributes:
        step: steps taken.
        metrics: ``"validation/<name>"`` -> value.
        best: whether no earlier evaluation was better.
    """

    step: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on the disk.

    Attributes:
        step: steps taken when it was saved.
        folder: the checkpoint; later ones may replace it.
    """

    step: int
    folder: Path


@dataclass(frozen=True)
class Ended:
    """A training has come to its end; nothing of it is written any more.

    Attributes:
        step: steps taken.
        outcome: ``"finished"``, also where patience ended it; ``"interrupted"`` where it can go on; ``"failed"``.
        metrics: validation metrics of the best checkpoint, as ``Run.metrics`` has them; empty unless it finished.
    """

    step: int
    outcome: Outcome
    metrics: Mapping[str, float]


class Callback:
    """What a recipe adds to its training. Subclasses are dataclasses, so that they are stored with the experiment, and
    override what they need; an exception ends the training with an error that names the callback.

    The methods are called by process 0 alone, between two steps, and training waits for them. An experiment may be
    trained several times, as by ``suite tune``: what a callback keeps belongs to the training since ``on_start``.
    """

    def on_start(self, event: Started) -> None:
        """Before the first step."""

    def on_log(self, event: Logged) -> None:
        """After each line of the log, once in ``train.log_every`` steps."""

    def on_evaluation(self, event: Evaluated) -> None:
        """After each evaluation on the validation split."""

    def on_checkpoint(self, event: Saved) -> None:
        """Once a checkpoint is complete: at the next one, or at the end."""

    def on_end(self, event: Ended) -> None:
        """After the last step, however it ended."""
