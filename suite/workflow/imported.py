"""Published weights as a run: measured on data without any training, then served, exported and compared like others."""

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from suite.compression import run_writer
from suite.contracts.data import Source
from suite.contracts.model import ModelConfig
from suite.data.preprocessing.boxes import BoxLabels, box_counts
from suite.data.preprocessing.labels import Labels, class_names
from suite.data.preprocessing.tokenizers import Published as PublishedTokenizer
from suite.data.preprocessing.transcripts import UNKNOWN, Characters
from suite.data.sources.datasets import from_path
from suite.errors import InputError, unused
from suite.evaluation.embedding import Embedding
from suite.experiment import recipes
from suite.experiment.sections import Experiment, replace
from suite.runs import run
from suite.runs.results import new_folder
from suite.runs.run import Run
from suite.runtime.files import is_run
from suite.training.preprocessors import column_of, prepare, preprocessor_file, preprocessors_of
from suite.weights import heads, pretrained, published
from suite.workflow import encoders

_RECIPES = {
    "suite.models.transformer": "text.finetune",
    "suite.models.seq2seq": "text.translate",
    "suite.models.resnet": "vision.finetune",
    "suite.models.vit": "vision.finetune",
    "suite.models.efficientnet": "vision.finetune",
    "suite.models.convnext": "vision.finetune",
    "suite.models.inception": "vision.finetune",
    "suite.models.detr": "vision.detr",
    "suite.models.wav2vec2": "speech.recognize",
    "suite.models.whisper": "speech.transcribe",
}
"""The recipe whose task weights of a family are measured by."""

Changes = Callable[[Experiment], Experiment]


def evaluate(
    source: str,
    data: str,
    split: str = "test",
    batch_size: int = 0,
    *,
    recipe: str = "",
    folder: str | Path = "",
    offline: bool = False,
    changes: Changes = lambda experiment: experiment,
) -> Run:
    """A run of published weights as they are, with its metrics on ``split`` of the user's own data.

    Args:
        source: a folder, a file or a name on the hub; see `suite.weights.published.open`.
        data: a file or folder of records.
        split: train, validation or test.
        batch_size: records at a time; 0: as the recipe says.
        recipe: whose task is measured; empty: that of the weights' family.
        folder: the run folder that is written; by default ``runs/<date>-<name>``.
        offline: take names on the hub from the local cache only.
        changes: to the recipe, such as the names of columns.

    Raises:
        InputError: the weights cannot be read or have no head, or classes of the data are none of theirs.
    """
    weights = published.open(source, offline)
    theirs = pretrained.config_of(weights)
    family = type(theirs).__module__
    loaded = recipes.load(recipe) if recipe else None
    if not (loaded and isinstance(loaded.task, Embedding)):
        pretrained.check_whole(weights, theirs, recipe or _RECIPES.get(family, ""), data)
    if not recipe and family not in _RECIPES:
        raise InputError(
            f'weights "{source}"',
            f"of {family} have no task that they are measured by.",
            found="no --recipe",
            fix="name a recipe for them, of suite list, by --recipe",
        )
    experiment = _experiment(loaded or recipes.load(_RECIPES[family]), weights, theirs, source, offline)
    if isinstance(experiment.task, Embedding):
        experiment = encoders.as_published(experiment, weights, theirs)
        theirs = experiment.model
    experiment = changes(replace(experiment, {"task.data": from_path(data, experiment.task.data)}))
    target = Path(folder) if folder else new_folder(f"{Path(source).name}.evaluate")
    if is_run(target):
        raise InputError(f'--run-dir "{target}"', "already holds a run.", fix=f"--run-dir {unused(target)}")
    _write(experiment, weights, theirs, experiment.task.source(split), target)
    return run.open(target).evaluate(split, batch_size)


def _experiment(
    experiment: Experiment, weights: published.Published, theirs: ModelConfig, source: str, offline: bool
) -> Experiment:
    """The recipe with the weights' own model, computing as they were published."""
    named = str(Path(source).expanduser().resolve()) if Path(source).expanduser().exists() else source
    given: dict[str, Any] = {**encoders.unchanged(named), "model": theirs, "checkpoint.offline": offline}
    family = type(theirs).__module__
    if family == "suite.models.seq2seq":
        given["task.tokenizer"] = PublishedTokenizer()
        if (weights.folder / "target.spm").is_file():
            given["task.target_tokenizer"] = PublishedTokenizer(side="target")
    if family == "suite.models.wav2vec2":
        given |= {"task.features.kind": "samples", "task.augment": (), "task.spec_augment": None}
    return replace(experiment, given)


def _write(
    experiment: Experiment, weights: published.Published, theirs: ModelConfig, records: Source, target: Path
) -> None:
    """The run folder. Its assets are fitted beside it first, so that it is whole or not there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "assets").mkdir()
        head = _outputs(experiment, weights, records, folder)
        if head is not None:
            theirs = dataclasses.replace(theirs, outputs=len(head.rows))  # type: ignore[type-var]
        bound = prepare(dataclasses.replace(experiment, model=theirs), folder, records)
        params, model_state = pretrained.read(bound.model, weights, head)
        existed = target.exists()
        try:
            run_writer.write(bound, params, model_state, target, folder / "assets")
        except InputError:
            if not existed:
                shutil.rmtree(target, ignore_errors=True)
            raise


def _outputs(experiment: Experiment, weights: published.Published, records: Source, folder: Path) -> heads.Match | None:
    """Which published outputs are the task's, in its order, with the file of its classes or letters written; None
    where the task has no such names."""
    names, _ = heads.published_outputs(weights)
    for field, asset in preprocessors_of(experiment.task).items():
        file = preprocessor_file(folder, field, asset)
        if isinstance(asset, Labels):
            return _classes(records, str(column_of(experiment.task, field, asset)), names, file)
        if isinstance(asset, BoxLabels):
            return _things(asset, records, str(column_of(experiment.task, field, asset)), names, file)
        if isinstance(asset, Characters):
            return _letters(asset, names, file)
    return None


def _classes(records: Source, column: str, theirs: list[str], file: Path) -> heads.Match:
    """The data's classes, and behind them those of the weights that the data has no record of."""
    stated = records.classes.get(column)
    own = list(stated) if stated else sorted({*class_names(records[np.arange(len(records))][column])})
    match, rest = _found(own, theirs, column)
    names = [*own, *(theirs[place] for place in rest)]
    content = {"names": names, "indexed": stated is not None}
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return heads.Match((*match.rows, *rest), match.said)


def _things(asset: BoxLabels, records: Source, column: str, theirs: list[str], file: Path) -> heads.Match:
    """As `_classes`, of boxes. Names that weights give several outputs, as to numbers that are of nothing, are told
    apart by these."""
    counts, most = box_counts(records, column)
    own = sorted(counts)
    match, rest = _found(own, theirs, column)
    often = Counter([*own, *(theirs[place] for place in rest)])
    names = [*own, *(theirs[k] if often[theirs[k]] == 1 else f"{theirs[k]} {k}" for k in rest)]
    content = {"names": names, "counts": [counts[name] for name in names], "most": asset.places(most)}
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return heads.Match((*match.rows, *rest), match.said)


def _found(own: list[str], theirs: list[str], column: str) -> tuple[heads.Match, list[int]]:
    """The data's classes among those of the weights, and the places of the others.

    Raises:
        InputError: the weights have none of this name.
    """
    match = heads.match(own, theirs, some=True)
    if not match.rows:
        raise InputError(
            f"column {column}",
            "names classes that the weights have no output for.",
            found=match.said.removeprefix("new head: "),
            fix="the weights' names in that column, or id2label in config.json",
        )
    return match, [place for place in range(len(theirs)) if place not in match.rows]


def _letters(asset: Characters, theirs: list[str], file: Path) -> heads.Match:
    """The letters that the weights know, as the task spells them."""
    spelt = {asset.normalise(symbol) if symbol.strip() else symbol for symbol in theirs if len(symbol) == 1}
    letters = sorted(letter for letter in spelt if len(letter) == 1 and letter != UNKNOWN)
    match = heads.match(["", UNKNOWN, *letters], theirs, some=True)
    if not match.rows:
        raise InputError("the weights", "name no letters.", found=match.said, fix="vocab.json beside them")
    file.write_text(json.dumps({"characters": "".join(letters)}, ensure_ascii=False), encoding="utf-8")
    return match
