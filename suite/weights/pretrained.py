"""Published weights, in and out: one loader that runs the IMPORTS table of a model, strictly, in both directions.

Families are found by their files under ``suite/models``; nothing here knows one by name.
"""

import dataclasses
import functools
import importlib
import pkgutil
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from suite.contracts.model import ModelConfig
from suite.errors import InputError, RunError, closest
from suite.experiment import serialization
from suite.experiment.former_names import current_name
from suite.experiment.sections import Experiment
from suite.runtime import json_files
from suite.runtime.files import is_run
from suite.tree import paths
from suite.weights import heads, published
from suite.weights.config_sizes import check
from suite.weights.correspondence import Filling, abstract, applications
from suite.weights.imports import Map
from suite.weights.published import Published

__all__ = [
    "Written",
    "abstract",
    "adopt",
    "check_parts",
    "check_whole",
    "config_of",
    "fill",
    "format_of",
    "formats",
    "is_published",
    "load",
    "read",
    "report",
    "resized",
    "rewrite",
    "save",
    "taken",
]


@dataclass(frozen=True)
class Written:
    """What lies in a published folder.

    Attributes:
        folder: its path.
        format: name of the published format.
        tensors: how many.
        values: numbers in them.
        files: names of all files.
        left_out: names of tensors of the source that carry nothing of ours.
    """

    folder: Path
    format: str
    tensors: int
    values: int
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@functools.cache
def formats() -> dict[str, Map]:
    """Name -> Map of every published format that a family under ``suite/models`` reads."""
    maps: dict[str, Map] = {}
    for module in pkgutil.iter_modules(importlib.import_module("suite.models").__path__):
        maps |= getattr(importlib.import_module(f"suite.models.{module.name}"), "IMPORTS", {})
    return maps


def is_published(model: ModelConfig) -> bool:
    """Whether the model's family has a published format, also one of a model with parts."""
    return bool(getattr(importlib.import_module(type(model).__module__), "IMPORTS", {}))


def format_of(weights: Published) -> str:
    """The name of the format that weights are published in: their ``model_type``, or the one that recognises them.

    Raises:
        InputError: no family reads them.
    """
    kind = weights.config.get("model_type", "")
    if isinstance(kind, str) and kind in formats():
        return kind
    names = list(weights.readers)
    for name, table in formats().items():
        if table.recognise(weights.config, names):
            return name
    seen = f'model_type "{kind}"' if kind else f"no model_type; tensors {', '.join(names[:3])}, ..."
    raise InputError(
        f'weights "{weights.folder}"',
        "are of no known format.",
        found=seen,
        fix=f"one of {', '.join(sorted(formats()))}",
    )


def load(source: str | Path, *, offline: bool = False, **changes: Any) -> tuple[ModelConfig, nnx.Module]:
    """The model of published weights, in float32, without any training.

    Args:
        source: a folder, a file or a name on the hub; see `suite.weights.published.open`.
        offline: take names on the hub from the local cache only.
        **changes: fields of the model's config that should differ, such as ``pooling="mean"``.

    Raises:
        InputError: the weights cannot be read, are of no known format, or don't fit the model they describe.
    """
    weights = published.open(source, offline)
    table = formats()[format_of(weights)]
    config = dataclasses.replace(_config(table, weights), **changes)  # type: ignore[type-var]
    try:
        graph, params, model_state = abstract(config)
    except json_files.CONTENT_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise _no_model(weights, error) from None
    return config, nnx.merge(graph, *Filling(table, config, weights, exact=True)(params, model_state))


def fill(
    model: ModelConfig,
    params: Any,
    model_state: Any,
    source: str | Path,
    *,
    offline: bool = False,
    outputs: Sequence[str] = (),
) -> tuple[Any, Any]:
    """(params, model_state) with every published tensor of ``source`` in its place, dtype and sharding.

    The arrays that are replaced are deleted, each before its successor is placed. What fine-tuning adds to the model
    and a new head keep their values; so does a head whose published counterpart has another size.

    Args:
        model: what ``params`` and ``model_state`` are the variables of.
        params: nested dict of arrays, see `suite.tree`.
        model_state: the same for what is not trained, such as running statistics.
        source: a folder, a file or a name on the hub; see `suite.weights.published.open`.
        offline: take names on the hub from the local cache only.
        outputs: names of the model's outputs, in order, by which a published head is matched: where the names differ,
            the head keeps its values, and a line says so. Empty: by position, where the sizes agree.

    Raises:
        InputError: one, with all tensors that don't fit.
    """
    weights = published.open(source, offline)
    table = formats()[format_of(weights)]
    theirs = _config(table, weights)
    if type(theirs) is not type(model):
        raise InputError(
            f'weights "{source}"',
            f"are of {type(theirs).__module__}, not {type(model).__module__}.",
            fix="weights of the model's own family",
        )
    head = None
    if outputs:
        names, alphabet = heads.published_outputs(weights)
        head = heads.match(outputs, names, some=alphabet)
    return Filling(table, model, weights, exact=False, head=head)(params, model_state)


def config_of(weights: Published) -> ModelConfig:
    """Our configuration of the model that weights are of.

    Raises:
        InputError: no family reads them, or ``config.json`` describes no model of it.
    """
    return _config(formats()[format_of(weights)], weights)


def read(
    model: ModelConfig, weights: Published, head: heads.Match | None = None, variables: tuple[Any, Any] | None = None
) -> tuple[Any, Any]:
    """(params, model_state) of a model that is the published one but for its outputs.

    Args:
        model: the configuration.
        weights: the published tensors.
        head: which of the published outputs the model has; None: all of them.
        variables: (params, model_state) as shapes, dtypes and shardings; None: on one device.

    Raises:
        InputError: one, with all tensors that don't fit, or the weights have no head.
    """
    params, model_state = variables or abstract(model)[1:]
    filling = Filling(formats()[format_of(weights)], model, weights, exact=True, head=head)
    params, model_state = filling(params, model_state)
    if any(re.search(model.head, path) for path in filling.fresh):
        raise headless(weights)
    return params, model_state


def check_whole(weights: Published, model: ModelConfig, recipe: str = "", data: str = "") -> None:
    """To be called before records are read, with what the user would train a head by.

    Raises:
        InputError: tensors of the model are missing, or all of its head.
    """
    missing, fresh = Filling(formats()[format_of(weights)], model, weights, exact=True).missing()
    if missing:
        more = f", and {len(missing) - MISSING} more" if len(missing) > MISSING else ""
        files = ", ".join(sorted(path.name for path in weights.folder.iterdir()))
        raise InputError(
            f'weights "{weights.folder}"',
            f"lack {len(missing)} tensors of the model that {published.CONFIG} describes.",
            found=f"no {', '.join(missing[:MISSING])}{more}; files: {files}",
            fix=f"fetch them again, whole, with the tokenizer and the other files beside {published.CONFIG}",
        )
    if model.headless or any(re.search(model.head, path) for path in fresh):
        raise headless(weights, recipe, data)


MISSING = 4
"""Missing tensors that are named."""


def headless(weights: Published, recipe: str = "", data: str = "") -> InputError:
    """The error that weights are of a body alone.

    Args:
        weights: the published tensors.
        recipe: one that trains a head for them; empty: left to the user.
        data: where the user's records are.
    """
    recipe, data, source = recipe or "EXPERIMENT", data or "PATH", str(weights.folder)
    return InputError(
        f'weights "{weights.folder}"',
        "have no head, so they answer nothing yet.",
        found=", ".join(map(str, weights.config.get("architectures") or ())) or "a body alone",
        fix=shlex.join(["suite", "train", recipe, "--data", data, "--checkpoint.init_from", source]),
    )


def adopt(experiment: Experiment) -> Experiment:
    """The experiment with the sizes of the weights that it, or a part of it, starts from; itself where it starts fresh
    or from a run of a model of its own kind.

    Raises:
        InputError: the weights cannot be read or are of another family, or the model has no such part.
    """

    def theirs(name: str) -> ModelConfig:
        source = experiment.checkpoint.start(name)
        if is_run(source):
            return _of_run(experiment.model.parts[name] if name else experiment.model, source, name)
        weights = published.open(experiment.checkpoint.start(name), experiment.checkpoint.offline)
        return _config(formats()[format_of(weights)], weights)

    check_parts(experiment)
    return _adopted(experiment, theirs)


def resized(experiment: Experiment, held: ModelConfig) -> Experiment:
    """As `adopt`, with the sizes that ``held``, a run's own model, took from the weights when the run began."""
    return _adopted(experiment, lambda name: held.parts[name] if name else held)


def _adopted(experiment: Experiment, theirs: Callable[[str], ModelConfig]) -> Experiment:
    """``theirs``: of a part, or of the whole model (""), the configuration that published weights have."""
    model, checkpoint = experiment.model, experiment.checkpoint
    names = [""] if isinstance(checkpoint.init_from, str) else list(checkpoint.init_from)
    for name in names:
        source = checkpoint.start(name)
        own = model.parts[name] if name else model
        if not source or (is_run(source) and _of_run(own, source, name) is own):
            continue
        if name:
            parts = {**model.parts, name: own.adopt(theirs(name))}
            model = dataclasses.replace(model, parts=parts)  # type: ignore[type-var]
        else:
            model = own.adopt(theirs(name))
    return experiment if model is experiment.model else dataclasses.replace(experiment, model=model)


def _of_run(model: ModelConfig, source: str, name: str) -> ModelConfig:
    """The configuration that a run's own model has, or the first part of it whose sizes ``model`` can take: a
    classifier those of a network that was trained beside others. ``model`` itself where the run's is of its own class,
    or has a part of its ``name``, or no part fits, which reading the weights tells."""
    stored = json_files.read_object(Path(source, "experiment.json")).get("model", {})
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    parts = dict(stored.get("parts") or {})
    if current_name(str(stored.get("class"))) == kind or model.parts or name in parts:
        return model
    return next(filter(None, (taken(model, part) for part in (stored, *parts.values()))), model)


def taken(model: ModelConfig, stored: Mapping[str, Any]) -> ModelConfig | None:
    """The stored configuration, where ``model`` can take its sizes."""
    try:
        theirs: ModelConfig = serialization.from_json(stored, serialization.packages(model))
        model.adopt(theirs)
    except InputError:
        return None
    return theirs


def check_parts(experiment: Experiment) -> None:
    """InputError where ``checkpoint.init_from`` names a part that the model hasn't, or names one without a source."""
    start, parts = experiment.checkpoint.init_from, list(experiment.model.parts)
    for name, source in () if isinstance(start, str) else start.items():
        if name not in parts or not source:
            right = name if name in parts else closest(name, parts) or next(iter(parts), "")
            raise InputError(
                "field checkpoint.init_from",
                f'names no source for the part "{name}".' if name in parts else f'"{name}" is no part of the model.',
                found=", ".join(parts) or f"{type(experiment.model).__module__}, which has no parts",
                fix=f"--checkpoint.init_from {shlex.quote((f'{right}=' if right else '') + (source or 'SOURCE'))}",
            )


def save(
    model: ModelConfig,
    params: Any,
    model_state: Any,
    folder: str | Path,
    *,
    format: str = "",
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write ``config.json`` and ``model.safetensors`` as the original library publishes them.

    Args:
        model: what ``params`` and ``model_state`` are the variables of.
        params: nested dict of arrays.
        model_state: nested dict of arrays.
        folder: made if missing; files of the same names are overwritten.
        format: one of `formats`; empty: the first of the model's family that can hold it.
        about: more for ``config.json``, such as names of classes; takes precedence.

    Returns:
        The name of the format.

    Raises:
        InputError: no published format can hold this model.
    """
    name, config = _publishable(model, format)
    table = formats()[name]
    prefix = table.prefixes[0] if table.prefix is None else table.prefix(model)
    _write(table, model, paths(params) | paths(model_state), Path(folder), {**config, **(about or {})}, prefix)
    return name


def rewrite(source: str | Path, folder: str | Path, *, offline: bool = False) -> Written:
    """Read published weights and write them again, in float32, with the small files beside them; then compare.

    Args:
        source: a folder, a file or a name on the hub; see `suite.weights.published.open`.
        folder: where to write.
        offline: take names on the hub from the local cache only.

    Raises:
        InputError: the weights cannot be read or don't fit.
        RunError: what was written differs from what was read.
    """
    weights = published.open(source, offline)
    name = format_of(weights)
    config = _config(formats()[name], weights)
    _, params, model_state = abstract(config)
    filling = Filling(formats()[name], config, weights, exact=True)
    params, model_state = filling(params, model_state)
    leaves = {path: leaf for path, leaf in (paths(params) | paths(model_state)).items() if path not in filling.fresh}
    about = {key: value for key, value in weights.config.items() if key not in ("torch_dtype", "dtype")}
    about = {**formats()[name].publish(config), **about}
    _write(formats()[name], config, leaves, Path(folder), about, filling.prefix)
    again, theirs = published.open(folder), {known: name for name, known in filling.renamed.items()}
    changed = [
        name
        for name in again.readers
        if name not in theirs or not np.array_equal(again.read(name), weights.read(theirs[name]).astype(np.float32))
    ]
    if changed:
        raise RunError(f"written tensors differ from those read: {', '.join(changed)}")
    for pattern in published.BESIDES:
        for path in weights.folder.glob(pattern):
            if path.name not in (published.CONFIG, published.INDEX):
                shutil.copyfile(path, Path(folder) / path.name)
    return report(folder, filling.left_out)


def report(folder: str | Path, left_out: Sequence[str] = ()) -> Written:
    """What a published folder holds."""
    weights = published.open(folder)
    values = sum(weights.read(name).size for name in weights.readers)
    files = sorted(path.name for path in weights.folder.iterdir())
    return Written(
        weights.folder, format_of(weights), len(weights.readers), values, tuple(files), tuple(sorted(left_out))
    )


def _config(table: Map, weights: Published) -> ModelConfig:
    """Our config of the published one; values of types that no library writes are refused like any other."""
    try:
        config = table.settle(table.config(weights.config), weights)
        check(config, len(weights.readers))
        return config
    except InputError as error:
        if not error.where.startswith("field model"):
            raise
        raise InputError(  # a check of our fields, which nobody set here
            str(weights.folder / published.CONFIG),
            f"describes a model that this family cannot be: {error.where.removeprefix('field ')} {error.problem}",
            found=error.found,
            fix="the one that was published with the tensors",
        ) from None
    except json_files.CONTENT_ERRORS as error:
        raise _no_model(weights, error) from None


def _no_model(weights: Published, error: Exception) -> InputError:
    found = f"{type(error).__name__}: {error!s:.200}"
    where = str(weights.folder / published.CONFIG)
    return InputError(where, "holds values that make no model.", found=found, fix="fetch it again")


def _write(
    table: Map, model: ModelConfig, leaves: Mapping[str, Any], folder: Path, config: Mapping[str, Any], prefix: str
) -> None:
    rules = applications(table, model, leaves.keys(), prefix)

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for rule, names, own in rules:
            tensors = rule.transform.write([np.asarray(leaves[path]) for path in own])
            yield from zip(names, tensors, strict=True)

    published.write(folder, config, arrays)


def _publishable(model: ModelConfig, format: str) -> tuple[str, dict[str, Any]]:
    """(name of the format, published config)."""
    family = importlib.import_module(type(model).__module__)
    tables: Mapping[str, Map] = getattr(family, "IMPORTS", {})
    if format and format not in tables:
        raise InputError("format", f'"{format}" is none of {family.__name__}.', found=", ".join(tables) or "none")
    refused = []
    for name in [format] if format else tables:
        try:
            return name, tables[name].publish(model)
        except InputError as error:
            refused.append(f"{name}: {error.where} {error.problem}")
    raise InputError(
        f"model of {family.__name__}",
        "fits none of its published formats.",
        found=" ".join(refused) or "the family has none",
    )
