"""How a search for a goal ended: met or not, by how much, with what."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.experiment import sections, serialization
from suite.experiment.goal import Choice
from suite.experiment.sections import Experiment
from suite.runs.run import Run
from suite.runs.verbs import as_stored
from suite.runtime import files, json_files
from suite.training.preprocessors import bind
from suite.tuning.space import Dimension, shown

VERDICT = "verdict.json"
STOPPED = {"trials": "its trials are spent", "hours": "its time is spent"}


@dataclass(frozen=True)
class Verdict:
    """How a search for a goal ended.

    Attributes:
        goal: ``"validation/accuracy >= 0.9"``, or ``"the best validation/accuracy"`` where no value was to be reached.
        met: whether it was; the best always is.
        margin: by how much, negative where it was missed; None where it could not be measured, and of the best.
        stopped_by: goal, trials or hours.
        trial: number of the chosen one, the best on validation.
        values: what the search gave it, by field.
        validation: its metrics.
        test: its metrics on the test split, at which no decision looked; None where there are none.
        why_no_test: why there are none.
        trials: number, state, value, values, steps and seconds of each.
        run: the chosen trial's run.
    """

    goal: str
    met: bool
    margin: float | None
    stopped_by: str
    trial: int
    values: Mapping[str, Any]
    validation: Mapping[str, float]
    test: Mapping[str, float] | None
    why_no_test: str
    trials: tuple[Mapping[str, Any], ...]
    run: Run

    def __str__(self) -> str:
        """For people, a few lines."""
        metrics = {**_named("validation", self.validation), **_named("test", self.test or {})}
        lines = [self.sentence, f"chosen: trial {self.trial}, {shown(self.values)}"]
        lines += [f"{name:32} {value:.6g}" for name, value in metrics.items()]
        lines += [f"test: not measured: {self.why_no_test}"] if self.test is None else []
        return "\n".join([*lines, str(self.run.folder)])

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        trials = f"{len(self.trials)} trial{'s' * (len(self.trials) != 1)}"
        spent = f"{trials}, {lasted(sum(trial['seconds'] for trial in self.trials))}"
        if self.met and self.margin is None:
            metric = self.goal.rpartition("/")[2]
            on = self.goal.removesuffix(f"/{metric}").rpartition(" ")[2]
            value = (self.validation if on == "validation" else self.test or {}).get(metric, math.nan)
            return f"{self.goal}: {value:.6g} ({spent}; {STOPPED.get(self.stopped_by, self.stopped_by)})"
        if self.margin is None:
            return f"goal {self.goal}: not met, since it could not be measured ({spent})"
        how = f"met, by {self.margin:.4g}" if self.met else f"missed by {-self.margin:.4g}"
        why = f"; {STOPPED[self.stopped_by]}" if self.stopped_by in STOPPED and not self.met else ""
        return f"goal {self.goal}: {how} ({spent}{why})"


def lasted(seconds: float) -> str:
    """A time for people."""
    size, unit = next((pair for pair in ((3600, "hours"), (60, "minutes")) if seconds >= 2 * pair[0]), (1, "seconds"))
    return f"{seconds / size:.1f} {unit}"


def _named(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}


def write(verdict: Verdict, folder: Path) -> None:
    """``verdict.json`` in the folder of the search."""
    told = {
        "goal": verdict.goal,
        "met": verdict.met,
        "margin": verdict.margin,
        "stopped_by": verdict.stopped_by,
        "chosen": {
            "trial": verdict.trial,
            "folder": str(verdict.run.folder.relative_to(folder)),
            "values": plain(verdict.values),
        },
        "validation": dict(verdict.validation),
        "test": None if verdict.test is None else dict(verdict.test),
        "why_no_test": verdict.why_no_test,
        "trials": list(verdict.trials),
    }
    files.write_text(folder / VERDICT, json.dumps(told, indent=1) + "\n")


def read(folder: Path, experiment: Experiment, dimensions: Sequence[Dimension]) -> Verdict | None:
    """The verdict of the search in a folder, if there is one."""
    if not (folder / VERDICT).exists():
        return None
    told = json_files.read_object(folder / VERDICT)
    chosen, values = told["chosen"], {}
    for part in dimensions:
        value = chosen["values"][part.field]
        known = dict(zip(part.labels, part.values.among, strict=True)) if isinstance(part.values, Choice) else {}
        values[part.field] = known.get(json.dumps(value), part.own) if known else value
    return Verdict(
        told["goal"],
        told["met"],
        told["margin"],
        told["stopped_by"],
        chosen["trial"],
        values,
        told["validation"],
        told["test"],
        told["why_no_test"],
        tuple(told["trials"]),
        opened(experiment, folder / chosen["folder"], values, told["validation"], told["test"]),
    )


def opened(
    experiment: Experiment,
    folder: Path,
    values: Mapping[str, Any],
    validation: Mapping[str, float],
    test: Mapping[str, float] | None = None,
) -> Run:
    """The run of a trial, as ``suite.train`` returned it.

    Raises:
        InputError: it is gone.
    """
    if not files.is_run(folder):
        raise InputError(
            f'run folder "{folder}"', "was chosen by a search, and is gone.", fix="put it back, or another --run-dir"
        )
    trained = as_stored(sections.replace(experiment, values), folder)
    return Run(folder, bind(trained, folder), {**_named("validation", validation), **_named("test", test or {})})


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields and values as JSON."""
    return {name: serialization.to_json(value) for name, value in values.items()}
