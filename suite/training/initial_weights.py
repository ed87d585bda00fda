"""Initial weights: what a run starts from, the best parameters of another run or published weights, part by part."""

import contextlib
import dataclasses
import logging
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.former_names import current_name
from suite.experiment.sections import Experiment
from suite.experiment.serialization import to_json
from suite.runtime import json_files
from suite.runtime.files import is_run
from suite.surgery import lora
from suite.training.checkpoint import Checkpoints, OtherModel
from suite.training.preprocessors import output_names, run_outputs
from suite.tree import map_paths, paths
from suite.weights import heads, pretrained

_log = logging.getLogger(__name__)

Weights = tuple[Any, Any]
"""(params, model_state): nested dicts of arrays or of their shapes."""


def check_runs(experiment: Experiment) -> None:
    """Sizes are compared when the weights are read; this compares families, before anything is taken over from a run.

    Raises:
        InputError: ``checkpoint.init_from`` names a run whose model has nothing for that of the recipe, or for the part
            it is named for.
    """
    pretrained.check_parts(experiment)
    start, model = experiment.checkpoint.init_from, experiment.model
    for name, source in {"": start}.items() if isinstance(start, str) else start.items():
        if not source or not is_run(source):
            continue
        own = model.parts[name] if name else model
        run = json_files.read_object(Path(source, "experiment.json"))
        stored = run.get("model") or {}
        if _fits(own, stored, name):
            continue
        parts = {name: own} if name or not own.parts else dict(own.parts)
        fitting = [f"{part}={shlex.quote(source)}" for part, inner in parts.items() if _fits(inner, stored, part)]
        raise InputError(
            "field checkpoint.init_from",
            f'the run "{source}" has a model of another kind than {f"the part {name}" if name else "the recipe"}.',
            found=f"{_described(stored)} in the run, of {run.get('name')}; {_described(to_json(own))} in the recipe",
            fix=f"--checkpoint.init_from {' '.join(fitting)}" if fitting else _runs_that_fit(parts),
        )


def _kind(model: Any) -> str:
    """The class of a configuration, or of a stored one."""
    if isinstance(model, ModelConfig):
        return f"{type(model).__module__}.{type(model).__qualname__}"
    return current_name(str(model.get("class")))


def _fits(own: ModelConfig, stored: Mapping[str, Any], name: str) -> bool:
    """Whether a model, or the part ``name`` of one, can begin with weights of a model by its stored configuration."""
    parts = dict(stored.get("parts") or {})
    if own.parts:  # open fields may have added parts to the run, or left some out
        same = parts.keys() <= own.parts.keys() or own.parts.keys() <= parts.keys()
        return _kind(stored) == _kind(own) and same
    held = [stored, parts[name]] if name in parts else [stored] if name else [stored, *parts.values()]
    return any(_kind(model) == _kind(own) or pretrained.taken(own, model) for model in held)


def _described(stored: Mapping[str, Any]) -> str:
    parts = dict(stored.get("parts") or {})
    return ", ".join(f"{name}: {_described(part)}" for name, part in parts.items()) or _kind(stored).rpartition(".")[0]


def _runs_that_fit(parts: Mapping[str, ModelConfig]) -> str:
    """Advice on what a model, or the first of its parts that anything fits, can begin with: runs of recipes, those of
    pre-training first, and those of published data last."""
    models = {}
    for recipe in sorted(recipes.names(), key=lambda recipe: ("pretrain" not in recipe, "_" in recipe)):
        with contextlib.suppress(InputError, ImportError):  # such as of an extra that is not installed
            models[recipe] = to_json(recipes.load(recipe).model)
    for part, own in parts.items():
        names = [recipe for recipe, stored in models.items() if _fits(own, stored, part)]
        if names:
            flag = f"--checkpoint.init_from {part}=RUN" if part else "--checkpoint.init_from RUN"
            return f"a run of {' or of '.join(names[:3])} as {flag}, or leave --checkpoint.init_from out"
    return "--checkpoint.init_from="


def initial_weights(experiment: Experiment, abstract: Weights, fresh: Weights) -> Weights:
    """The variables with what ``checkpoint.init_from`` names in the place of fresh values.

    Additions of fine-tuning, and parts that are not named, keep their values.

    Args:
        experiment: bound.
        abstract: shapes, dtypes and shardings of the model's variables.
        fresh: the same as arrays; those that published weights replace are deleted.

    Raises:
        InputError: a run has no checkpoint or one of another model, weights don't fit, or there is no such part.
    """
    pretrained.check_parts(experiment)
    start = experiment.checkpoint.init_from
    if isinstance(start, str):
        return _loaded(experiment, abstract, fresh, "") if start else fresh
    params, model_state = dict(fresh[0]), dict(fresh[1])
    for name in start:
        own = dataclasses.replace(experiment, model=experiment.model.parts[name])
        params[name], others = _loaded(own, _of_part(abstract, name), _of_part((params, model_state), name), name)
        if others:
            model_state[name] = others
    return params, model_state


def _of_part(weights: Weights, name: str) -> Weights:
    """A part without running statistics has no entry among the other variables."""
    return weights[0][name], weights[1].get(name, {})


def _loaded(experiment: Experiment, abstract: Weights, fresh: Weights, part: str) -> Weights:
    """Of the whole model, or of one part of it."""
    source, offline = experiment.checkpoint.start(part), experiment.checkpoint.offline
    outputs = output_names(experiment.task, part)
    if not is_run(source):
        return pretrained.fill(experiment.model, *fresh, source, offline=offline, outputs=outputs)
    headless = not any(re.search(experiment.model.head, path) for path in paths(abstract[0]))
    without = "|".join([experiment.model.head] * headless + [experiment.model.omitted])
    try:
        params, model_state = best_weights(Path(source), *abstract, fresh[0], part, without)
    except OtherModel as error:
        raise InputError(
            "field checkpoint.init_from",
            f'the run "{source}" was written by another model.',
            found=error.found,
            fix=_sizes(experiment.model, Path(source), part) or "--checkpoint.init_from=",
        ) from None
    theirs = run_outputs(Path(source), part) or run_outputs(Path(source))
    if not outputs or not theirs or outputs == theirs:
        return params, model_state
    return _by_name(experiment.model, params, fresh[0], heads.match(outputs, theirs), source), model_state


def _sizes(model: ModelConfig, run: Path, part: str) -> str:
    """Flags that give a model, or a part of one, the sizes of a run's, as far as the run's recipe states them."""
    stored = json_files.read_object(run / "experiment.json").get("model") or {}
    parts = dict(stored.get("parts") or {})
    named = (parts.get(part) or {}, stored, *parts.values())
    held: Mapping[str, Any] = next((theirs for theirs in named if _kind(theirs) == _kind(model)), {})
    where = f"model.parts.{part}" if part else "model"
    sizes = {name: held.get(name) for name, own in to_json(model).items() if type(own) is int and held.get(name) != own}
    return " ".join(f"--{where}.{name} {size}" for name, size in sizes.items() if size)


def _by_name(model: ModelConfig, params: Any, fresh: Any, head: heads.Match, source: str) -> Any:
    """``params`` with the rows of the head in the order of the model's outputs, or with the fresh head."""
    initial = paths(fresh)
    _log.warning("%s: %s", source, head.said)

    def own(path: str, leaf: Any) -> Any:
        if not re.search(model.head, path) or path.endswith("/addition/a"):
            return leaf
        return jax.device_put(leaf[..., np.array(head.rows)], leaf.sharding) if head.rows else initial[path]

    return map_paths(own, params)


def best_weights(
    folder: Path, params: Any, model_state: Any, fresh: Any = None, part: str = "", without: str = ""
) -> Weights:
    """(params, model_state) of the best checkpoint of the run in ``folder``, averaged where the run has an average.

    Args:
        folder: a run folder.
        params, model_state: shapes, dtypes and shardings of the model that is wanted.
        fresh: parameters that give the additions of fine-tuning, where the run has none.
        part: name of the part that the variables are of: the run may be one of that part alone, or of a model that has
            a part of that name.
        without: regular expression on the paths of the run's parameters that are left out: of its head, where the model
            that is wanted has none.

    Raises:
        InputError: there is no checkpoint, or it is of another model.
    """
    with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
        step = checkpoints.served
        if step is None:
            raise InputError(
                f"run {folder}", "has no complete checkpoint.", fix=f"suite train --resume {shlex.quote(str(folder))}"
            )
        saved, plain = checkpoints.parameters(step), lora.base(params)
        if without:
            saved = {
                name: shape for name, shape in saved.items() if not re.search(without, name.removeprefix(f"{part}/"))
            }
        alone = paths(plain).keys()
        if fresh is not None and not part and not {*saved} & {*alone} and (name := _part_like(plain, saved)):
            said, weights = _carried(checkpoints, step, (plain, model_state), fresh, name, saved)
            _log.warning("%s: %s", folder, said)
            return lora.with_additions(weights[0], fresh), weights[1]
        inner = {name.removeprefix(f"{part}/") for name in saved if part and name.startswith(f"{part}/")}
        if not inner or saved.keys() == alone:
            part, inner = "", set(saved)
        if fresh is None or inner != alone:
            return checkpoints.weights(step, params, model_state, part, without)
        weights, others = checkpoints.weights(step, plain, model_state, part, without)
    return lora.with_additions(weights, fresh), others


def _part_like(params: Any, saved: Mapping[str, tuple[int, ...]]) -> str:
    """Name of the part of a composite run that a model can carry on from: all they have in common is of one shape, and
    they have something in common. Empty: there is none.

    Args:
        params: shapes of the model's parameters.
        saved: path -> shape of the run's.
    """
    own = {name: tuple(leaf.shape) for name, leaf in paths(params).items()}
    for part in dict.fromkeys(name.partition("/")[0] for name in saved):
        theirs = {name.removeprefix(f"{part}/"): shape for name, shape in saved.items() if name.startswith(f"{part}/")}
        common = {name.partition("/")[0] for name in own} & {name.partition("/")[0] for name in theirs}
        of = lambda shapes, common=common: {n: shape for n, shape in shapes.items() if n.partition("/")[0] in common}
        if common and of(own) == of(theirs):
            return part
    return ""


def _carried(
    checkpoints: Checkpoints, step: int, abstract: Weights, fresh: Any, part: str, saved: Collection[str]
) -> tuple[str, Weights]:
    """What a person is told, and the variables: those of a run's part, and fresh ones where it has none, as of a head.

    Args:
        checkpoints: of the run.
        step: whose variables are read.
        abstract: shapes of the model's variables.
        fresh: the model's parameters as arrays.
        part: name of the part of the run.
        saved: paths of all parameters of the run.
    """
    params, model_state = abstract
    inner = {name.removeprefix(f"{part}/").partition("/")[0] for name in saved if name.startswith(f"{part}/")}
    kept = {name: tree for name, tree in params.items() if name in inner}
    own = "|".join(map(re.escape, inner - kept.keys())) or "$^"
    weights, others = checkpoints.weights(step, kept, model_state, part, rf"^({own})/")
    new = {name: fresh[name] for name in params if name not in kept}
    left = sorted({name.partition("/")[0] for name in saved} - {part})
    left += [f"{part}/{name}" for name in sorted(inner - kept.keys())]
    said = f'{len(paths(kept))} parameters are those of its part "{part}"'
    said += f"; new: {', '.join(new)}" if new else ""
    said += f"; left behind: {', '.join(left)}" if left else ""
    return said, ({name: weights.get(name, new.get(name)) for name in params}, others)
