"""Loggers: where the metrics of a run go besides metrics.jsonl, by name, behind one interface."""

import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from suite.contracts.callback import Outcome
from suite.distribution import missing
from suite.errors import InputError, closest
from suite.runtime import files, json_files

LOGGERS = {"tensorboard": ("tensorboardX", ""), "mlflow": ("mlflow", "mlflow"), "wandb": ("wandb", "wandb")}
"""Name -> the package that it needs, and the extra that brings it."""
RUNS = "loggers.json"
"""File of a run folder: logger -> what it calls the run."""


@dataclass(frozen=True)
class About:
    """What a logger is told of the run.

    Attributes:
        name: of the experiment.
        folder: the run folder, which holds ``experiment.json``.
        fields: the experiment, dotted name -> value as JSON has it.
        step: steps taken before, where the run goes on; else 0.
    """

    name: str
    folder: Path
    fields: Mapping[str, Any]
    step: int = 0

    @property
    def title(self) -> str:
        """Name of the run: that of its folder, and of its search, where it is a trial."""
        folder = self.folder.absolute()
        return f"{folder.parents[1].name}/{folder.name}" if folder.parent.name == "trials" else folder.name


class Logger(Protocol):
    """A place for metrics. What a method raises is told once, and stops no training; but a run does not begin where
    ``start`` fails."""

    def start(self, about: About) -> None:
        """A run begins, or goes on: its name, hyper-parameters and recipe."""

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        """Metrics of a step, ``"train/loss"`` or ``"validation/accuracy"``."""

    def close(self, outcome: Outcome) -> None:
        """The run has come to its end."""


def check(names: Sequence[str]) -> None:
    """Check the names of loggers and that their packages are installed.

    Raises:
        InputError: one is unknown, or its package is missing.
    """
    for name in names:
        if name not in LOGGERS:
            near = closest(name, LOGGERS)
            fix = f"--train.loggers {shlex.quote(near)}" if near else ""
            raise InputError("field train.loggers", f'"{name}" is unknown.', found=", ".join(LOGGERS), fix=fix)
        package, extra = LOGGERS[name]
        if importlib.util.find_spec(package) is None:
            raise missing(package, f"by train.loggers {name}", extra)


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """Fields of an experiment as JSON (`suite.experiment.serialization.to_json`) by dotted name; lists stay whole
    where they hold no objects."""
    if isinstance(value, Mapping):
        items = [(key, item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flattened(item, f"{name}.{key}" if name else key)
    return flat


def known_run(folder: Path, logger: str) -> str:
    """What a logger calls the run in a folder; empty where it does not know it."""
    path = folder / RUNS
    return str(json_files.read_object(path).get(logger, "")) if path.exists() else ""


def note_run(folder: Path, logger: str, name: str) -> None:
    """Keep what a logger calls the run in a folder, so that it goes on there."""
    path = folder / RUNS
    known = json_files.read_object(path) if path.exists() else {}
    files.write_text(path, json.dumps({**known, logger: name}) + "\n")
