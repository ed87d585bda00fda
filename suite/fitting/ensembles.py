"""Ensembles of trained runs: which of them say more together, and a run folder that holds them as one."""

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.compression import run_writer
from suite.contracts.data import Data
from suite.contracts.model import ModelConfig
from suite.contracts.preprocessor import Postprocessor
from suite.contracts.task import Task
from suite.data.pipeline.dispatches import make_plan
from suite.evaluation.bootstrap import joined
from suite.evaluation.ensemble import Ensemble, Member
from suite.evaluation.evaluate import Answers
from suite.experiment import sections, serialization
from suite.experiment.goal import Search
from suite.experiment.sections import Checkpoint, Experiment
from suite.runs import run
from suite.runs.run import Run
from suite.runtime import files
from suite.training import fingerprint
from suite.training.preprocessors import preprocessor_file, preprocessors_of, unbind

ROUNDS = 20
"""Most picks of the greedy selection; a model may be picked again."""
LENGTHS = "lengths-train.npy"
PARTS = "suite.models.parts.Parts"
"""Class of composite models, which is found by its name as families are."""


def compatible(first: tuple[Run, Answers], other: tuple[Run, Answers]) -> bool:
    """Whether two runs answer the same records in the same terms, and compute in the same way, so that their mean can
    be one model."""
    ours, theirs = first[0].experiment, other[0].experiment
    mine, yours = type(ours.task), type(theirs.task)
    if mine.averaged is Task.averaged or (mine.averaged, mine.score) != (yours.averaged, yours.score):
        return False
    if (ours.precision, ours.compression) != (theirs.precision, theirs.compression):
        return False
    if {ours.finetune.kind, theirs.finetune.kind} != {"full"}:
        return False
    one, two = first[1].batch, other[1].batch
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def select(task: Task, answers: Sequence[Answers], metric: str, lower: bool, most: int) -> list[float]:
    """The share of each of several models in their mean, by a greedy selection: from the best alone, the model that
    helps most is added, again and again, until none helps (Caruana et al., 2004, doi 10.1145/1015330.1015432).

    Args:
        task: that scores.
        answers: of each model, on the same records.
        metric: what decides; ``lower`` whether less of it is better.
        most: models that may have a share.
    """
    task, batch = without_conclusions(task), dict(answers[0].batch)

    def loss(picked: Counter[int]) -> float:
        shares = [count / picked.total() for count in picked.values()]
        mean = task.averaged([answers[place].outputs for place in picked], shares)  # type: ignore[misc]
        value = task.score({name: np.asarray(array) for name, array in mean.items()}, batch)[metric].value()
        return value if lower else -value

    alone = [(loss(Counter([place])), Counter([place])) for place in range(len(answers))]
    best, picked = min(alone, key=lambda pair: pair[0])
    for _ in range(ROUNDS):
        open_places = range(len(answers)) if len(picked) < most else picked
        tried = [(loss(picked + Counter([place])), place) for place in open_places]
        value, place = min(tried, default=(best, 0))
        if not value < best:
            break
        best, picked = value, picked + Counter([place])
    return [picked[place] / picked.total() for place in range(len(answers))]


def without_conclusions(task: Task) -> Task:
    """The task before anything was learnt at the end of training."""
    assets = preprocessors_of(task).items()
    free = {name: dataclasses.replace(asset, file="") for name, asset in assets if isinstance(asset, Postprocessor)}
    return dataclasses.replace(task, **free)  # type: ignore[type-var]


def write(
    runs: Sequence[Run], shares: Sequence[float], folder: Path, data: Data, answers: Answers | None = None
) -> Run:
    """A run folder in which several runs are one: `suite.evaluation.ensemble.Ensemble`.

    Args:
        runs: that are `compatible`.
        shares: of each, above 0; they add up to 1.
        folder: replaced where it is there.
        data: of the ensemble.
        answers: of records that no member was trained on, from which a threshold or a temperature is learnt; None:
            what the ensemble says of validation.
    """
    tasks, members = _tasks(runs, shares)
    lead = runs[0].experiment
    models = {member.part: one.experiment.model for member, one in zip(members, runs, strict=True)}
    variables = {member.part: one.variables for member, one in zip(members, runs, strict=True)}
    experiment = dataclasses.replace(
        lead,
        task=Ensemble(data=data, tasks={name: task for name, (task, _) in tasks.items()}, members=members),
        model=_parts(models),
        optim=dataclasses.replace(lead.optim, tables="dense", frozen=(), rates=()),
        checkpoint=Checkpoint(),
        search=Search(),
        goal=None,
        defaults=None,
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    with tempfile.TemporaryDirectory() as assets:
        for name, (_, one) in tasks.items():
            _copy_assets(one, name, Path(assets))
        lengths = runs[0].folder / "assets" / LENGTHS
        if len(tasks) == 1 and lengths.is_file():
            shutil.copyfile(lengths, Path(assets) / LENGTHS)
        params = {part: own for part, (own, _) in variables.items()}
        state = {part: own for part, (_, own) in variables.items() if own}
        run_writer.write(experiment, params, state, partial, Path(assets))
    if len(tasks) > 1:
        _note_lengths(run.open(partial, serialization.packages(experiment)))
    if (runs[0].folder / fingerprint.FILE).is_file():
        shutil.copyfile(runs[0].folder / fingerprint.FILE, partial / fingerprint.FILE)
    partial.rename(folder)
    ensemble = run.open(folder, serialization.packages(experiment))
    _conclude(ensemble, answers)
    return run.open(folder, serialization.packages(experiment))


def _parts(models: Mapping[str, ModelConfig]) -> ModelConfig:
    """The models side by side."""
    stored = {"class": PARTS, "parts": serialization.to_json(models)}
    allowed = tuple({package for model in models.values() for package in serialization.packages(model)})
    model: ModelConfig = serialization.from_json(stored, allowed)
    return model


def _tasks(runs: Sequence[Run], shares: Sequence[float]) -> tuple[dict[str, tuple[Task, Run]], tuple[Member, ...]]:
    """The tasks that differ, by name, each with a run of it; and the members."""
    tasks: dict[str, tuple[Task, Run]] = {}
    names: dict[tuple[str, ...], str] = {}
    members = []
    for place, (one, share) in enumerate(zip(runs, shares, strict=True)):
        task = dataclasses.replace(unbind(one.experiment).task, data=runs[0].experiment.task.data)  # type: ignore[type-var]
        assets = preprocessors_of(without_conclusions(one.experiment.task)).values()
        learnt = [Path(asset.file) for asset in assets if asset.file]
        key = (json.dumps(serialization.to_json(task)), *(str(path.read_bytes()) for path in learnt))
        name = names.setdefault(key, f"t{len(names)}")
        tasks.setdefault(name, (task, one))
        members.append(Member(part=f"m{place}", task=name, weight=share))
    return tasks, tuple(members)


def _copy_assets(one: Run, task: str, to: Path) -> None:
    for name, asset in preprocessors_of(one.experiment.task).items():
        if asset.file and not isinstance(asset, Postprocessor):
            target = preprocessor_file(to, f"tasks.{task}.{name}", asset)
            shutil.copyfile(asset.file, to / target.name)


def _note_lengths(ensemble: Run) -> None:
    """Padded lengths of rows that several tasks encode."""
    task, train = ensemble.experiment.task, ensemble.experiment.train
    cache = ensemble.folder / "assets" / LENGTHS
    make_plan(task, task.source("train"), train.batch_size, seed=None, cache=cache)


def _conclude(ensemble: Run, answers: Answers | None) -> None:
    """Store what the task learns of answers: a threshold, a temperature."""
    task = ensemble.experiment.task
    assert isinstance(task, Ensemble)
    if answers is None:
        said = ensemble.collect("validation")
        conclusions = task.conclude([(said.outputs, said.batch)])
    else:
        conclusions = task.named(task.first.conclude([(answers.outputs, answers.batch)]))
    for name, conclusion in conclusions.items():
        content = {**conclusion.content, "notes": list(conclusion.notes)}
        file = preprocessor_file(ensemble.folder, name, preprocessors_of(task)[name])
        files.write_text(file, json.dumps(content, ensure_ascii=False, indent=1))


def of_folds(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment on other data, with what its preprocessors have learnt, and nothing concluded."""
    task = without_conclusions(experiment.task)
    return sections.replace(dataclasses.replace(experiment, task=task), changes)


def joined_answers(parts: Sequence[Answers]) -> Answers:
    """Answers of several splits as those of one; the records are numbered through."""
    starts = np.cumsum([0, *(len(part.scores) for part in parts)])
    scores = [
        dataclasses.replace(part.scores, records=part.scores.records + start)
        for part, start in zip(parts, starts, strict=False)
    ]
    stacked = lambda rows: {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
    outputs, batch = stacked([part.outputs for part in parts]), stacked([part.batch for part in parts])
    return Answers(joined(scores), outputs, batch)
