"""Words and flags that several verbs share."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from suite.cli.flags import Flags, flag, options, word
from suite.errors import InputError

if TYPE_CHECKING:
    from suite.experiment.goal import Budget
    from suite.experiment.sections import Experiment


@dataclass(frozen=True, kw_only=True)
class Allowing(Flags):
    """A verb that opens what may name classes of other packages."""

    allow: tuple[str, ...] = flag((), value="PACKAGE", example="my_package", otherwise="the suite's own classes alone")
    """Packages whose classes a stored experiment or bundle may name, besides the suite's; several with commas."""

    @property
    def allowed(self) -> tuple[str, ...]:
        return tuple(name for given in self.allow for name in given.split(",") if name)


@dataclass(frozen=True, kw_only=True)
class Trusting(Allowing):
    """A verb that opens bundles of others."""

    trust: str = flag("", value="KEYS", example="keys", otherwise="a bundle need not be signed")
    """Public keys, a PEM file or a folder of them: a bundle that none of them has signed is refused."""


@dataclass(frozen=True, kw_only=True)
class OfRun(Allowing):
    """A verb that is about a run folder."""

    run: str = word("RUN", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder; suite train prints it last."""


@dataclass(frozen=True, kw_only=True)
class Smoke(Flags):
    """A verb that may run on a small scale."""

    smoke: bool = flag(False, otherwise="the recipe in full")
    """The same recipe shrunk to seconds, to try whether everything works."""


@dataclass(frozen=True, kw_only=True)
class OfExperiment(Smoke):
    """A verb that is about an experiment, whose fields are flags, too."""

    takes_fields: ClassVar[bool] = True
    experiment: str = word("EXPERIMENT", example="text.classify", fix="suite list")
    """Name of a recipe that suite list prints, or a .py file with experiment()."""
    data: str = flag("", value="PATH", example="reviews.csv", otherwise="the recipe's own data")
    """Your own records: a CSV, TSV, JSONL or Parquet file, a manifest, or a folder."""
    target: str = flag("", value="COLUMN", example="price", otherwise="the recipe's own column")
    """Column that is to be predicted: --task.target, or --task.label of a recipe that predicts classes."""
    offline: bool = flag(False, otherwise="names on the hub are fetched")
    """Take published weights from the local cache only."""

    def resolved(self, changes: Mapping[str, Any] | None = None) -> "Experiment":
        """The experiment with --data, ``changes`` by dotted name, and its fields applied."""
        from suite.cli.fields import apply_flags
        from suite.experiment import recipes, sections

        experiment = recipes.load(self.experiment, smoke=self.smoke)
        if self.data:
            from suite.data.sources.datasets import from_path

            experiment = sections.replace(experiment, {"task.data": from_path(self.data, experiment.task.data)})
        if self.target:
            from suite.experiment.predicted import target_field

            experiment = sections.replace(experiment, {f"task.{target_field(experiment)}": self.target})
        experiment = sections.replace(experiment, changes or {})
        if self.offline:
            experiment = sections.replace(experiment, {"checkpoint.offline": True})
        own = [option.name for option in options(type(self)) if option.kind == "flag"]
        return apply_flags(self.aimed(experiment), list(self.fields), self.program, own)

    def aimed(self, experiment: "Experiment") -> "Experiment":
        """The experiment before its fields are applied, with the goal of a verb that takes one."""
        return experiment

    @property
    def program(self) -> str:
        """The command before the fields of the experiment."""
        own = list(self.typed)
        for item in self.fields:
            if item in own:
                own.remove(item)
        return shlex.join(["suite", *self.verb.split(), *own])


@dataclass(frozen=True, kw_only=True)
class Aiming(OfExperiment):
    """A verb that searches for a goal."""

    goal: str = flag("", value="GOAL", example='"accuracy>=0.9"', otherwise="the recipe's own, or the best there is")
    """What is to be reached: a metric of the validation split, or of test/METRIC, and >= or <= a value, in quotes. A
    metric alone asks for the best."""
    budget: str = flag("", value="BUDGET", example="20m", otherwise="the recipe's own, or 20 trials")
    """What the search may cost: a time (90s, 20m, 2h), a number of trials, or both: "2h, 50 trials"."""
    accept_changed_data: bool = flag(False, otherwise="changed data are refused")
    """Go on with other data than the search was begun with."""

    def aimed(self, experiment: "Experiment") -> "Experiment":
        if not self.goal:
            return experiment
        from suite.experiment.goal import Goal
        from suite.tuning import tuning

        goal = Goal(self.goal)
        if goal.open and (bound := _redirected()):
            problem = "has lost its value to the shell, which takes > and < for redirections."
            fix = shlex.join(["--goal", f"{self.goal.strip('>< ')}>{bound}"])
            raise InputError("flag --goal", problem, found=f'output goes to a file called "{bound}"', fix=fix)
        return tuning.aimed(experiment, goal)

    @property
    def spending(self) -> "Budget | None":
        """The budget that was given."""
        from suite.experiment.goal import Budget

        return Budget(self.budget) if self.budget else None


def _redirected() -> str:
    """The name of the file that output goes to, where it is the rest of a goal, as ``=0.9`` of ``accuracy>=0.9``."""
    try:
        name = os.path.basename(os.readlink("/proc/self/fd/1"))
    except OSError:
        return ""
    return name if re.fullmatch(r"=?\d*\.?\d+%?", name) else ""


@dataclass(frozen=True, kw_only=True)
class Together(Flags):
    """A verb that several processes run together."""

    coordinator: str = flag(
        "", value="HOST:PORT", example="10.0.0.1:1234", otherwise="SUITE_COORDINATOR, or one process"
    )
    """Address of process 0."""
    processes: str = flag("", value="N", example="2", otherwise="SUITE_PROCESSES")
    """How many processes there are."""
    process_id: str = flag("", value="I", example="0", otherwise="SUITE_PROCESS")
    """Number of this one, from 0."""
    join_seconds: str = flag("", value="S", example="300", otherwise="300")
    """How long to wait for the others to come."""
    lost_seconds: str = flag("", value="S", example="60", otherwise="60")
    """How long a silent process counts as alive."""

    @property
    def place(self) -> dict[str, str]:
        """What was given of these, by name."""
        names = ("coordinator", "processes", "process-id", "join-seconds", "lost-seconds")
        return {name: value for name in names if (value := getattr(self, name.replace("-", "_")))}


def folder_named(folder: str, given: Flags) -> None:
    """Raises InputError: ``--continue`` without a folder to go on in."""
    if not folder:
        raise InputError(
            "flag --continue", "goes on with work that has begun, in a folder that is named.", fix="--run-dir runs/mine"
        )
