"""Preprocessors of a run: fitted once on the training split, kept as files, read back by every later verb."""

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from suite.contracts.data import Source
from suite.contracts.model import ModelConfig
from suite.contracts.preprocessor import Postprocessor, Preprocessor
from suite.contracts.task import Task
from suite.data.preprocessing.boxes import BoxLabels
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.tokenizers import Published, Tokenizer
from suite.data.preprocessing.transcripts import Characters, Pieces
from suite.data.sources.memory import Stacked
from suite.errors import InputError, closest
from suite.experiment import serialization
from suite.experiment.former_names import current_name
from suite.experiment.sections import Experiment, replace
from suite.runtime import json_files
from suite.runtime.files import is_run, put_file
from suite.weights import published
from suite.weights.image_statistics import ImageStatistics, image_statistics


def preprocessors_of(task: Task) -> dict[str, Preprocessor]:
    """The task's fields that are learnt from data, by field name; those of tasks within it by ``tasks.NAME.field``."""
    found: dict[str, Preprocessor] = {}
    for field in dataclasses.fields(task):  # type: ignore[arg-type]
        value = getattr(task, field.name)
        if isinstance(value, Preprocessor):
            found[field.name] = value
        for name, inner in value.items() if isinstance(value, Mapping) else ():
            if isinstance(inner, Task):
                found |= {f"{field.name}.{name}.{own}": asset for own, asset in preprocessors_of(inner).items()}
    return found


def preprocessor_file(folder: Path, name: str, asset: Preprocessor) -> Path:
    """Where the run in ``folder`` keeps the asset of field ``name``."""
    return folder / "assets" / f"{name}{asset.suffix}"


def output_names(task: Task, part: str = "") -> list[str]:
    """Names of the outputs of the model, or of a part of it, in their order; empty where they have none."""
    assets = [asset for asset in preprocessors_of(task).values() if asset.part == part]
    return next((asset.outputs for asset in assets if asset.outputs), [])


def run_outputs(folder: Path, part: str = "") -> list[str]:
    """`output_names` of the run in ``folder``, whose classes need not be those of its own recipe any more."""
    stored = json_files.read_object(folder / "experiment.json").get("task", {})
    for name, value in stored.items():
        kind = current_name(str(value.get("class"))) if isinstance(value, dict) else ""
        for known in (Labels, BoxLabels, Target, Characters, Pieces):
            if kind == f"{known.__module__}.{known.__qualname__}" and value.get("part", "") == part:
                asset = known(file=str(preprocessor_file(folder, name, known())))
                return asset.outputs if Path(asset.file).is_file() else []
    return []


def prepare(experiment: Experiment, folder: Path, train: Source) -> Experiment:
    """Fit what is not fitted yet, then ``bind``. A file the user named is copied into the run folder."""
    for name, asset in preprocessors_of(experiment.task).items():
        target = preprocessor_file(folder, name, asset)
        if target.exists() or (isinstance(asset, Postprocessor) and not asset.file):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name("partial-" + target.name)
        if asset.file:
            _copy(name, asset, partial)
        else:
            _fit(name, asset, experiment, train, partial)
        put_file(partial, target)
    return bind(experiment, folder)


def adopt(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """The experiment whose preprocessors have the fields of those of the run that their part starts from
    (`Preprocessor.of_weights`), and what a person is told."""
    changes, lines = {}, []
    for name, asset in preprocessors_of(experiment.task).items():
        start = experiment.checkpoint.start(asset.part)
        theirs = _of_run(name, asset, start)
        if theirs is None:
            continue
        fields = {field: getattr(theirs, field) for field in asset.of_weights}
        other = [field for field, value in fields.items() if getattr(asset, field) != value]
        changes[f"task.{name}"] = dataclasses.replace(asset, **fields)
        said = f", and other than in the recipe {', '.join(f'{name}.{field}' for field in other)}" if other else ""
        lines.append(f'task.{name}: what was learnt is that of run "{start}"{said}')
    return replace(experiment, changes) if changes else experiment, lines


def _of_run(name: str, asset: Preprocessor, start: str) -> Preprocessor | None:
    """The same preprocessor of a run, with its file; None where it is learnt anew, or the run has none."""
    if not asset.of_weights or asset.file or not start or not is_run(start):
        return None
    try:
        file = _theirs(name, asset, Path(start))
    except InputError:  # a run on something else
        return None
    stored = json_files.read_object(Path(start) / "experiment.json")["task"].get(file.stem)
    theirs = serialization.from_json(stored, serialization.packages(asset)) if stored else None
    return dataclasses.replace(theirs, file=str(file)) if type(theirs) is type(asset) else None


def _fit(name: str, asset: Preprocessor, experiment: Experiment, train: Source, target: Path) -> None:
    """Learn from the data; but a tokenizer is that of the weights its part starts from, whose table it indexes."""
    start = experiment.checkpoint.start(asset.part)
    named = isinstance(asset, Published) and asset.source
    if isinstance(asset, Tokenizer) and not named and start and is_run(start):
        shutil.copyfile(_theirs(name, asset, Path(start)), target)
        return
    theirs = _of_run(name, asset, start)
    if theirs is not None and all(getattr(theirs, field) == getattr(asset, field) for field in asset.of_weights):
        shutil.copyfile(theirs.file, target)
        return
    if isinstance(asset, Published) and (asset.source or start):
        local = _folder(asset.source or start, experiment.checkpoint.offline)
        asset = dataclasses.replace(asset, source=str(local))
    column = column_of(experiment.task, name, asset)
    if isinstance(column, tuple) and asset.stacks:
        train, column = Stacked(train, column), column[0]
    if isinstance(asset, PixelStatistics) and start:
        _fit_images(
            name, asset, _statistics_of(name, asset, start, experiment.checkpoint.offline), train, column, target
        )
    else:
        asset.fit(train, column, target)


def _statistics_of(name: str, asset: PixelStatistics, start: str, offline: bool) -> ImageStatistics | None:
    """How images were given to the weights of a run or to published ones; None where nothing says it."""
    if not is_run(start):
        return image_statistics(published.open(start, offline))
    try:
        theirs = dataclasses.replace(asset, file=str(_theirs(name, asset, Path(start))))
    except InputError:  # a run on something else than images
        return None
    height, width, channels = theirs.shape
    if asset.channels not in (0, channels):
        return None
    return ImageStatistics(tuple(theirs.mean.tolist()), tuple(theirs.std.tolist()), (height, width), f'run "{start}"')


def _fit_images(
    name: str, asset: PixelStatistics, stated: ImageStatistics | None, train: Source, column: str, target: Path
) -> None:
    """Images are given to weights as they were trained on them, and it is said how."""
    if stated is None:
        asset.fit(train, column, target)
        lines = [
            "the weights do not state how images were normalised, such as by a preprocessor_config.json: mean and "
            "deviation are those of the training split"
        ]
    else:
        sized = dataclasses.replace(asset, size=asset.size or stated.size)
        *size, _ = sized.fit_to(train, column, target, stated.mean, stated.std)
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (stated.mean, stated.std))
        lines = [
            f"images are given to the weights as they were trained: mean {mean}, deviation {std} ({stated.origin}), "
            f"{size[1]} x {size[0]} pixels"
        ]
        if tuple(size) != stated.size:
            wanted = " ".join(map(str, stated.size))
            lines.append(f"the weights were trained on {wanted} pixels: --task.{name}.size {wanted}")
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def column_of(task: Task, name: str, asset: Preprocessor) -> Any:
    """The column that the preprocessor of the task's field ``name`` is learnt from; a tuple of several.

    Raises:
        InputError: the task has no such attribute.
    """
    for inner in name.split(".")[:-1]:
        task = task[inner] if isinstance(task, Mapping) else getattr(task, inner)
    if not hasattr(task, asset.column):
        fields = [field.name for field in dataclasses.fields(task)]  # type: ignore[arg-type]
        near = closest(asset.column, fields)
        raise InputError(
            f"field task.{name}.column",
            f'"{asset.column}" is no field of {type(task).__name__}.',
            found=", ".join(fields),
            fix=f"--task.{name}.column {shlex.quote(near)}" if near else "",
        )
    return getattr(task, asset.column)


def _theirs(name: str, asset: Preprocessor, run: Path) -> Path:
    """The file of the same preprocessor in another run: of the same field, or of the only one of its class.

    Raises:
        InputError: the run has none.
    """
    own = preprocessor_file(run, name, asset)
    if own.is_file():
        return own
    task = json_files.read_object(run / "experiment.json").get("task", {})
    kind = f"{type(asset).__module__}.{type(asset).__qualname__}"
    alike = [
        preprocessor_file(run, field, asset)
        for field, value in task.items()
        if isinstance(value, dict) and current_name(str(value.get("class"))) == kind
    ]
    if len(alike) == 1 and alike[0].is_file():
        return alike[0]
    raise InputError(
        f"field task.{name}",
        f'the run "{run}" has no {own.name}.',
        found=", ".join(sorted(path.name for path in own.parent.glob("*"))) or "nothing",
        fix="a recipe that learns it as the run did: text.encoder after text.pretrain, text.finetune after text.adapt",
    )


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
    bound = {}
    for name, asset in preprocessors_of(experiment.task).items():
        file = preprocessor_file(folder, name, asset)
        learnt = not isinstance(asset, Postprocessor) or file.exists()
        bound[name] = dataclasses.replace(asset, file=str(file) if learnt else "")
    # The models of tasks within the task were trained before, so their sizes are stated.
    stated, roomy = _stated({name: asset for name, asset in bound.items() if "." not in name})
    return dataclasses.replace(_with(experiment, bound), model=fill(experiment.model, stated, roomy))


def _with(experiment: Experiment, assets: Mapping[str, Preprocessor]) -> Experiment:
    return replace(experiment, {f"task.{name}": asset for name, asset in assets.items()})


def _stated(bound: Mapping[str, Preprocessor]) -> tuple[dict[str, Any], set[str]]:
    """Sizes by name, those of a part by its name, a dot and theirs; and which of them the model may exceed.

    Raises:
        InputError: two preprocessors state the same size, and neither says that they share it, or they differ in it.
    """
    stated: dict[str, Any] = {}
    owners: dict[str, str] = {}
    roomy: set[str] = set()
    for name, asset in bound.items():
        for field, size in asset.sizes().items():
            full = f"{asset.part}.{field}" if asset.part else field
            other = owners.setdefault(full, name)
            if other != name:
                _check_shared(full, (other, bound[other], stated[full]), (name, asset, size))
            stated[full] = size
            if isinstance(asset, Published):
                roomy.add(full)
    return stated, roomy


def _check_shared(size: str, first: tuple[str, Preprocessor, Any], second: tuple[str, Preprocessor, Any]) -> None:
    (one, known, value), (other, asset, stated) = first, second
    where, both = f"field task.{other}", f"task.{one} states {value}, task.{other} {stated}"
    if value != stated:
        raise InputError(
            where,
            f"states another {size} than task.{one}.",
            found=both,
            fix=f"where the model has a part for each: --task.{other}.part NAME",
        )
    if not (known.shares or asset.shares):
        raise InputError(
            where, f"states the size {size}, as task.{one} does.", found=both, fix=f"--task.{other}.shares True"
        )


def unbind(experiment: Experiment) -> Experiment:
    """The experiment with no paths of a run folder in it: what ``experiment.json`` holds."""
    assets = preprocessors_of(experiment.task)
    return _with(experiment, {name: dataclasses.replace(asset, file="") for name, asset in assets.items()})


def fill(model: ModelConfig, sizes: Mapping[str, Any], roomy: Collection[str] = ()) -> ModelConfig:
    """Sizes the model left at 0, or at () for several of them, taken from the task's data; ``text.outputs`` is that of
    the part ``text``.

    ``roomy``: sizes that the model may exceed, as published tables of tokens do to have round numbers of rows.

    Raises:
        InputError: the recipe states another size than the data has, or the model has no such part.
    """
    return _filled(model, sizes, roomy, "model")


def _filled(model: ModelConfig, sizes: Mapping[str, Any], roomy: Collection[str], where: str) -> ModelConfig:
    open_sizes: dict[str, Any] = {}
    parts = dict(model.parts)
    for name, own in _by_part(sizes).items():
        if name not in parts:
            raise InputError(
                f"field {where}",
                f'has no part "{name}", whose sizes a preprocessor states.',
                found=", ".join(parts) or f"{type(model).__module__}, which has no parts",
                fix=f'a preprocessor with part="{closest(name, parts)}"',
            )
        inner = {field.removeprefix(f"{name}.") for field in roomy if field.startswith(f"{name}.")}
        parts[name] = _filled(parts[name], own, inner, f"{where}.parts.{name}")
    if parts:
        open_sizes["parts"] = parts
    fields = {field.name for field in dataclasses.fields(model)}  # type: ignore[arg-type]
    for name, size in sizes.items():
        if name not in fields:
            continue
        stated = getattr(model, name)
        if stated in (0, ()):
            open_sizes[name] = size
        elif name in roomy and stated is not None and stated < size:
            raise InputError(
                f"field {where}.{name}",
                f"is {stated}, but the tokenizer has {size} ids.",
                fix="the tokenizer that the weights were published with",
            )
        elif name not in roomy and stated is not None and stated != size:
            raise InputError(
                f"field {where}.{name}", f"is {stated}, but the data has {size}.", fix=f"--{where}.{name} 0"
            )
    return dataclasses.replace(model, **open_sizes)  # type: ignore[type-var]


def _by_part(sizes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sizes with a dot in their names, by what stands before the first one."""
    parts: dict[str, dict[str, Any]] = {}
    for full, size in sizes.items():
        name, dot, field = full.partition(".")
        if dot:
            parts.setdefault(name, {})[field] = size
    return parts
