"""Preprocessors of a run: fitted once on the training split, kept as files, read back by every later verb."""

import dataclasses
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from suite.contracts.data import Source
from suite.contracts.model import ModelConfig
from suite.contracts.preprocessor import Preprocessor
from suite.contracts.task import Task
from suite.data.preprocessing.tokenizers import Published, Tokenizer
from suite.data.sources.memory import Stacked
from suite.errors import InputError
from suite.experiment.sections import Experiment
from suite.runtime.files import is_run
from suite.weights import published


def preprocessors_of(task: Task) -> dict[str, Preprocessor]:
    """The task's fields that are learnt from data, by field name."""
    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}  # type: ignore[arg-type]
    return {name: value for name, value in fields.items() if isinstance(value, Preprocessor)}


def preprocessor_file(folder: Path, name: str, asset: Preprocessor) -> Path:
    """Where the run in ``folder`` keeps the asset of field ``name``."""
    return folder / "assets" / f"{name}{asset.suffix}"


def prepare(experiment: Experiment, folder: Path, train: Source) -> Experiment:
    """Fit what is not fitted yet, then ``bind``. A file the user named is copied into the run folder."""
    for name, asset in preprocessors_of(experiment.task).items():
        target = preprocessor_file(folder, name, asset)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name("partial-" + target.name)
        if asset.file:
            _copy(name, asset, partial)
        else:
            _fit(name, asset, experiment, train, partial)
        os.replace(partial, target)
    return bind(experiment, folder)


def _fit(name: str, asset: Preprocessor, experiment: Experiment, train: Source, target: Path) -> None:
    """Learn from the data; but a tokenizer is that of the weights training starts from, whose table it indexes."""
    start = experiment.checkpoint.init_from
    named = isinstance(asset, Published) and asset.source
    if isinstance(asset, Tokenizer) and not named and start and is_run(start):
        theirs = preprocessor_file(Path(start), name, asset)
        if not theirs.is_file():
            found = ", ".join(sorted(path.name for path in theirs.parent.glob("*"))) or "nothing"
            raise InputError(
                f"field task.{name}",
                f'the run "{start}" has no {theirs.name}.',
                found=found,
                fix="a recipe with the same kind of tokenizer",
            )
        shutil.copyfile(theirs, target)
        return
    if isinstance(asset, Published) and (asset.source or start):
        local = _folder(asset.source or start, experiment.checkpoint.offline)
        asset = dataclasses.replace(asset, source=str(local))
    column = getattr(experiment.task, asset.of)
    if isinstance(column, tuple):
        train, column = Stacked(train, column), column[0]
    asset.fit(train, column, target)


def _folder(source: str, offline: bool) -> Path:
    """The local folder of weights, which are fetched where it is a name on the hub."""
    path = Path(source).expanduser()
    if path.exists():
        return path if path.is_dir() else path.parent
    return published.open(source, offline).folder


def _copy(name: str, asset: Preprocessor, target: Path) -> None:
    if not Path(asset.file).is_file():
        raise InputError(
            f"field task.{name}.file",
            f'"{asset.file}" is not a file.',
            fix=f"leave --task.{name}.file out to fit it on the training split",
        )
    shutil.copyfile(asset.file, target)


def bind(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with its assets read from ``folder`` and the model's open sizes filled from them."""
    bound = {
        name: dataclasses.replace(asset, file=str(preprocessor_file(folder, name, asset)))
        for name, asset in preprocessors_of(experiment.task).items()
    }
    task = dataclasses.replace(experiment.task, **bound)  # type: ignore[type-var]
    dims = {name: size for asset in bound.values() for name, size in asset.dims().items()}
    roomy = {name for asset in bound.values() if isinstance(asset, Published) for name in asset.dims()}
    return dataclasses.replace(experiment, task=task, model=fill(experiment.model, dims, roomy))


def unbind(experiment: Experiment) -> Experiment:
    """The experiment with no paths of a run folder in it: what ``experiment.json`` holds."""
    free = {name: dataclasses.replace(asset, file="") for name, asset in preprocessors_of(experiment.task).items()}
    return dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, **free))  # type: ignore[type-var]


def fill(model: ModelConfig, dims: dict[str, Any], roomy: Collection[str] = ()) -> ModelConfig:
    """Sizes the model left at 0, or at () for several of them, taken from the task's data.

    ``roomy``: sizes that the model may exceed, as published tables of tokens do to have round numbers of rows.

    Raises:
        InputError: the recipe states another size than the data has.
    """
    open_sizes = {}
    for name, size in dims.items():
        stated = getattr(model, name, None)
        if stated in (0, ()):
            open_sizes[name] = size
        elif name in roomy and stated is not None and stated < size:
            raise InputError(
                f"field model.{name}",
                f"is {stated}, but the tokenizer has {size} ids.",
                fix="the tokenizer that the weights were published with",
            )
        elif name not in roomy and stated is not None and stated != size:
            raise InputError(
                f"field model.{name}",
                f"is {stated}, but the data has {size}.",
                fix=f"--model.{name} 0 takes it from the data",
            )
    return dataclasses.replace(model, **open_sizes)  # type: ignore[type-var]
