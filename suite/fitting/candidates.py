"""Candidates: the recipes that records and a target call for, each with the columns that it reads."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.target_problem import Problem
from suite.data.reading import file_kind
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError, closest
from suite.experiment import recipes, sections
from suite.experiment.predicted import target_field
from suite.experiment.sections import Experiment
from suite.weights import published

LOOKED_AT = 2000
"""Records whose columns are looked at."""
WORDS = 3.0
"""Words above which, on average, a column is running text and no category."""
CLASSIFIED: tuple[Problem, ...] = ("binary", "classes")


@dataclass(frozen=True)
class Candidate:
    """A recipe on the records.

    Attributes:
        recipe: its name.
        experiment: with the data, the target and the columns it reads.
    """

    recipe: str
    experiment: Experiment


def candidates(data: Data, target: str, named: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """What may be trained on the records, the likeliest first.

    Args:
        data: where they lie.
        target: the column to predict; empty: ``label``, where there is one.
        named: recipes to try instead of those that the columns call for.

    Raises:
        InputError: there is no such column, a recipe is unknown or predicts no column, or none fits.
    """
    train = data.open("train")
    target = target or _target(train)
    if target not in train.schema:
        near = closest(target, train.schema)
        fix = f"--target {shlex.quote(near)}" if near else ""
        raise InputError("flag --target", f'there is no column "{target}".', found=", ".join(train.schema), fix=fix)
    rows = train[evenly_spaced(train, LOOKED_AT)]
    kinds = {name: _kind(train.schema[name], rows[name]) for name in train.schema if name not in (target, "file")}
    problem = Target().judged(train, target).problem
    names = tuple(named) or tuple(name for name in _fitting(kinds, problem) if name in recipes.names())
    loaded = [_candidate(name, data, target, kinds) for name in names]
    found = loaded if named else [one for one in loaded if _weights_at_hand(one.experiment)]
    if not found:
        raise InputError("the records", "fit no recipe.", found=_listed(kinds), fix="suite list")
    return tuple(found)


def _target(train: Source) -> str:
    if "label" in train.schema:
        return "label"
    last = list(train.schema)[-1]
    problem = "is missing: which column is to be predicted?"
    raise InputError("flag --target", problem, found=", ".join(train.schema), fix=f"--target {shlex.quote(last)}")


def _kind(stated: str, values: Any) -> str:
    """``"image"``, ``"audio"``, ``"text"`` of running text, or ``"value"``."""
    if stated in ("image", "audio"):
        return stated
    if stated != "text":
        return "value"
    texts = [str(value) for value in values if value is not None]
    if held := file_kind(values):
        return held
    return "text" if np.mean([len(text.split()) for text in texts] or [0]) > WORDS else "value"


def _fitting(kinds: Mapping[str, str], problem: Problem) -> tuple[str, ...]:
    """Recipes for columns of these kinds; those that a version does not have are left out by the caller."""
    alone = next(iter(kinds.values())) if len(kinds) == 1 else ""
    if alone == "image":
        by_problem = {"labels": ("vision.label",), "number": ("vision.regress",), "ordered": ("vision.regress",)}
        return by_problem.get(problem, ("vision.classify", "vision.finetune"))
    if alone == "audio":
        return ("speech.classify",) if problem in CLASSIFIED else ("table.predict",)
    if alone == "text":
        if problem in CLASSIFIED:
            return ("text.classify", "text.finetune", "table.predict")
        return ("text.label" if problem == "labels" else "text.regress", "table.predict")
    if "text" in kinds.values():
        return ("table.predict", "table.finetune")
    values_alone = set(kinds.values()) == {"value"}
    return ("table.predict", "recommendation.click") if problem == "binary" and values_alone else ("table.predict",)


def _candidate(name: str, data: Data, target: str, kinds: Mapping[str, str]) -> Candidate:
    experiment = recipes.load(name)
    fields = {field.name: getattr(experiment.task, field.name) for field in dataclasses.fields(experiment.task)}  # type: ignore[arg-type]
    predicted = target_field(experiment)
    changes: dict[str, Any] = {"task.data": data, f"task.{predicted}": target}
    for kind in ("text", "image", "audio"):  # the column of a task that reads one
        columns = [column for column, held in kinds.items() if held == kind]
        if isinstance(fields.get(kind), str) and fields[kind] not in kinds and len(columns) == 1:
            changes[f"task.{kind}"] = columns[0]
    return Candidate(name, sections.replace(experiment, changes))


def _weights_at_hand(experiment: Experiment) -> bool:
    """Whether the published weights that a recipe starts from lie on this machine."""
    start = experiment.checkpoint.init_from
    for source in filter(None, [start] if isinstance(start, str) else start.values()):
        try:
            if not Path(source).expanduser().exists():
                published.open(source, True)
        except InputError:
            return False
    return True


def _listed(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
