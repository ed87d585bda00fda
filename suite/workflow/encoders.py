"""Encoders: published weights, or a run that answers with something else, as a run whose answers are vectors."""

import dataclasses
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.model import ModelConfig
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.embedding import Embedding
from suite.experiment import recipes, serialization
from suite.experiment.sections import Experiment, replace
from suite.runs.run import Run
from suite.runtime import json_files
from suite.surgery.quantize import is_rounded
from suite.training.preprocessors import prepare, unbind
from suite.weights import image_statistics, pretrained, published

RECIPES = {
    "suite.models.transformer": "text.embed",
    "suite.models.resnet": "vision.embed",
    "suite.models.vit": "vision.embed",
    "suite.models.efficientnet": "vision.embed",
    "suite.models.convnext": "vision.embed",
    "suite.models.inception": "vision.embed",
}
"""The recipe whose answers are the vectors of a family."""
_POOLING = "pooling_mode_"
"""What the names of ways of pooling begin with, in the files of sentence-transformers."""


def of_weights(folder: Path) -> Run:
    """A run of published weights whose answers are vectors, without any training; its folder goes with it.

    Raises:
        InputError: the weights cannot be read, or are of a family that gives no vectors.
    """
    weights = published.open(folder)
    theirs = pretrained.config_of(weights)
    experiment = recipes.load(_recipe(f'weights "{folder}"', theirs))
    experiment = replace(experiment, {"name": folder.resolve().name, **unchanged(str(folder.resolve()))})
    experiment = as_published(experiment, weights, theirs)
    if "statistics" in {field.name for field in dataclasses.fields(experiment.task)}:  # type: ignore[arg-type]
        sample = _picture(folder, weights, experiment)
    else:
        sample = Memory({experiment.task.content: [""]})  # type: ignore[attr-defined]  # an Embedding's
    scratch = tempfile.TemporaryDirectory(prefix="suite-encoder-")
    serialization.dump(unbind(experiment), Path(scratch.name) / "experiment.json")
    bound = prepare(experiment, Path(scratch.name), sample)
    params, model_state = pretrained.read(bound.model, weights)
    return _run(Path(scratch.name), bound, (params, model_state), scratch)


def of_run(run: Run) -> Run:
    """A run whose answers are the vectors that the encoder of ``run`` makes: what its head is given.

    Raises:
        InputError: the model is of a family that gives no vectors, or its weights are rounded.
    """
    experiment = run.experiment
    where = f'run "{run.folder}"'
    recipe = recipes.load(_recipe(where, experiment.model))
    if is_rounded(experiment.compression):
        raise InputError(
            where, "has rounded weights, which give no vectors.", fix="the run that it was made of, by its folder"
        )
    kept = {field.name for field in dataclasses.fields(recipe.task)} - {"label", "other", "similarity", "scale"}  # type: ignore[arg-type]
    own = {name: getattr(experiment.task, name) for name in kept if hasattr(experiment.task, name)}
    task = dataclasses.replace(recipe.task, **own)  # type: ignore[type-var]
    model = dataclasses.replace(experiment.model, outputs=0)  # type: ignore[type-var]
    head = experiment.model.head
    params = {name: tree for name, tree in run.variables[0].items() if not re.search(head, f"{name}/")}
    bound = dataclasses.replace(experiment, task=task, model=model, goal=None)
    print(f"{run.folder}: vectors of the encoder, which its head is given", file=sys.stderr)
    return _run(run.folder, bound, (params, run.variables[1]), None)


def as_published(experiment: Experiment, weights: published.Published, theirs: ModelConfig) -> Experiment:
    """An experiment of embeddings with the weights' own model, given what they were trained on, and pooled as the
    files of sentence-transformers beside them say.

    Raises:
        InputError: they ask for what is not there.
    """
    if not isinstance(experiment.task, Embedding):
        return experiment
    changes: dict[str, Any] = {"model": dataclasses.replace(theirs, outputs=0)}  # type: ignore[type-var]
    if hasattr(theirs, "pooling"):
        changes |= _sentences(weights, theirs)
    if hasattr(experiment.task, "statistics"):  # images are of the size that the weights were trained on
        changes |= {"task.statistics.size": None, "task.statistics.channels": theirs.channels}  # type: ignore[attr-defined]
    return replace(experiment, changes)


def _sentences(weights: published.Published, theirs: Any) -> dict[str, Any]:
    """Pooling, length of texts and of vectors."""
    stated = weights.beside("1_Pooling/config.json") or {f"{_POOLING}mean_tokens": True}
    modes = [name.removeprefix(_POOLING) for name, on in stated.items() if name.startswith(_POOLING) and on is True]
    modules = _modules(weights.folder / "modules.json")
    unknown = [name for name in modules if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown or modes not in (["mean_tokens"], ["cls_token"]):
        raise InputError(
            f'weights "{weights.folder}"',
            "make their vectors in a way that is not there.",
            found=", ".join(unknown or modes) or "no pooling",
            fix="weights that take the mean token or the first one, perhaps of length one",
        )
    pooling = {"pooling": "mean"} if modes == ["mean_tokens"] else {"pooling": "cls", "pooler": "relu"}
    length = (weights.beside("sentence_bert_config.json") or {}).get("max_seq_length") or theirs.max_length
    return {
        **{f"model.{name}": value for name, value in pooling.items()},
        "task.max_length": min(int(length), theirs.max_length),
        "task.normalise": not modules or "Normalize" in modules,
    }


def _modules(file: Path) -> list[str]:
    """Kinds of the modules that sentence-transformers put one behind the other; none where it wrote no file."""
    if not file.is_file():
        return []
    return json_files.load(
        file, lambda modules: [str(module.get("type", "")).rpartition(".")[2] for module in modules], "fetch it again"
    )


def unchanged(source: str) -> Mapping[str, Any]:
    """Fields of an experiment, by name, that computes as the weights in ``source`` were published."""
    return {
        "checkpoint.init_from": source,
        "precision.compute": "float32",
        "train.ema": 0.0,
        "optim.frozen": (),
        "goal": None,
        "defaults": None,
    }


def _recipe(where: str, model: ModelConfig) -> str:
    family = type(model).__module__
    if family not in RECIPES:
        raise InputError(where, f"of {family} gives no vectors.", found=family, fix="--to answers.parquet")
    return RECIPES[family]


def _picture(folder: Path, weights: published.Published, experiment: Experiment) -> Memory:
    """One picture of the size that the weights were trained on."""
    stated = image_statistics.image_statistics(weights)
    if stated is None:
        raise InputError(
            f'weights "{folder}"',
            "do not state how images were normalised.",
            found="no preprocessor_config.json",
            fix=f"suite evaluate {shlex.quote(str(folder))} --data PHOTOS --recipe vision.embed",
        )
    channels = experiment.model.channels  # type: ignore[attr-defined]  # of every family of images
    return Memory({experiment.task.content: np.zeros((1, *stated.size, channels), np.uint8)})  # type: ignore[attr-defined]


def _run(folder: Path, experiment: Experiment, weights: tuple[Any, Any], scratch: Any) -> Run:
    run = Run(folder, experiment)
    run.__dict__.update(_weights=weights, _scratch=scratch)  # the temporary folder lives as long as the run
    return run
