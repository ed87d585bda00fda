"""The model card of a bundle: what is known of a model, and what is not, for people who are to use it."""

import inspect
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Data
from suite.contracts.kinds import input_kind, output_kind
from suite.data.preprocessing.columns import origin
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.target import Target
from suite.data.sources.memory import SPLITS
from suite.errors import InputError
from suite.experiment import recipes, serialization
from suite.experiment.local_paths import text_without_folders, without_folders
from suite.experiment.sections import Experiment
from suite.runs import baselines
from suite.runs.run import Run
from suite.runtime import json_files
from suite.training import privacy
from suite.training.preprocessors import preprocessors_of
from suite.tuning.recipe import differences

LISTED = 20
"""Most classes, and most fields that differ from the recipe, that a card lists."""


def write(trained_run: Run, content: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> str:
    """The card, in Markdown.

    Args:
        made: the run that became a bundle.
        content: of the bundle's manifest.
        weights: of the model, by name.
    """
    experiment = trained_run.experiment
    codec = experiment.task.codec
    sections = {
        "What it does": _purpose(experiment, codec, content, weights),
        "Data": _data(experiment),
        "Metrics": [
            *_metrics(experiment, content["metrics"]),
            *([f"Protocol: {protocol}."] if (protocol := experiment.task.protocol) else []),
            *_baselines(trained_run),
        ],
        **({"Privacy": guarantee.lines} if (guarantee := privacy.read(trained_run.folder)) else {}),
        "Limits": _limits(codec, content),
        "Intended use": [
            "Not stated by those who made it. It was trained and measured on the data above alone: what "
            "it does on other data, and to whom it is fair, was not looked at."
        ],
        "Licence": [
            content["made"]["licence"]
            or "Not stated. Data and the weights that training began with may set terms of their own.",
            *_terms(experiment),
        ],
        "How it was made": _making(trained_run, content),
    }
    return (
        "\n\n".join(
            [f"# {content['name']}", *("\n".join([f"## {title}", "", *lines]) for title, lines in sections.items())]
        )
        + "\n"
    )


def _purpose(
    experiment: Experiment, codec: Codec, content: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> list[str]:
    task, model = type(experiment.task), type(experiment.model)
    about = _first_line(inspect.getmodule(task))
    count = sum(array.size for name, array in weights.items() if name.startswith("params/"))
    return [
        f"{about}. A model of `{model.__module__}` with {count:,} parameters, computing in "
        f"{experiment.precision.compute}.",
        "",
        "A request gives:",
        "",
        *map(_input, codec.inputs[:LISTED]),
        *([f"- and {len(codec.inputs) - LISTED} more"] if len(codec.inputs) > LISTED else []),
        "",
        "An answer has:",
        "",
        *map(_output, codec.outputs),
    ]


def _first_line(thing: Any) -> str:
    """Of its docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


def _input(entry: Input) -> str:
    optional = "" if entry.required else ", may be absent"
    return f"- `{entry.name}` ({entry.kind}{optional}): {entry.description}"


def _output(entry: Output) -> str:
    kind = output_kind(entry.kind)
    types = f", {' or '.join(entry.media_types or kind.media_types)}" if kind.file else ""
    return f"- `{entry.name}` ({entry.kind}{types})" + (f": {entry.description}" if entry.description else "")


def _data(experiment: Experiment) -> list[str]:
    task = experiment.task
    data = task.data
    source = "Its origin is not known."
    if isinstance(data, Data):
        name = "" if origin(data) == "the data" else f"{origin(data)}; "
        source = f"{name}`{type(data).__module__}.{type(data).__name__}`: {_first_line(type(data))}."
        source += f" {data.origin}." if data.origin else ""
    lines = [source, "", "| split | records | left out by cleaning |", "|---|---|---|"]
    for split in SPLITS:
        try:
            records = task.source(split)
        except InputError as error:
            lines.append(f"| {split} | none | {text_without_folders(error.problem)} |")
            continue
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in records.dropped.items())
        lines.append(f"| {split} | {len(records):,} | {dropped or 'none'} |")
    for labels in preprocessors_of(task).values():
        if not isinstance(labels, Labels | Target) or not labels.names:
            continue
        shown = ", ".join(labels.names[:LISTED]) + (" ..." if len(labels.names) > LISTED else "")
        lines += ["", f"Classes, {len(labels.names)}: {shown}."]
    return [*lines, "", "Who is in the data and how it was gathered is not known here."]


def _terms(experiment: Experiment) -> list[str]:
    """The licence of the data, where they say it."""
    data = experiment.task.data
    return ["", f"The data's: {data.licence}."] if isinstance(data, Data) and data.licence else []


def _metrics(experiment: Experiment, metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not metrics:
        return ["None were measured."]
    lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, about in metrics.items():
        bounds = f"{about['low']:.4g} to {about['high']:.4g}" if "low" in about and "high" in about else "not computed"
        lines.append(f"| {name} | {about['value']:.4g} | {bounds} |")
    chosen = experiment.train.best.removeprefix("-")
    if chosen:
        lines += ["", f"The checkpoint was chosen by validation {chosen}, which is therefore better than on new data."]
    return lines


def _baselines(trained_run: Run) -> list[str]:
    """How the model compares with classical ones, as far as the run folder says."""
    known = [compared for split in baselines.HELD_OUT if (compared := baselines.stored(trained_run.folder, split))]
    lines = [line for compared in known for line in baselines.told(compared)]
    return ["", *(f"- {line.strip()}" for line in lines)] if lines else []


def _limits(codec: Codec, content: Mapping[str, Any]) -> list[str]:
    units = [(entry, input_kind(entry.kind).unit) for entry in codec.inputs if entry.limit]
    lines = [f"- `{entry.name}`: at most {entry.limit:,.0f} {unit}" for entry, unit in units if unit]
    if content["lengths"][-1] < codec.longest:
        lines.append(f"- rows longer than {content['lengths'][-1]} are refused")
    if any(output.share for output in codec.outputs):
        calibrated = any("calibration" in name for name in content["metrics"])
        known = "see calibration among the metrics" if calibrated else "whether they hold was not measured"
        lines.append(f"- probabilities are the model's own: {known}")
    return [*lines, f"- programs for {', '.join(content['platforms'])}, on one device"]


def _making(trained_run: Run, content: Mapping[str, Any]) -> list[str]:
    by, experiment = content["made"], trained_run.experiment
    revision = f", revision {by['revision']}" if by["revision"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in by["versions"].items())
    begun = experiment.checkpoint.init_from
    sources = {"": begun} if isinstance(begun, str) else begun
    ends = {part: "/".join(source.split("/")[-2:]) for part, source in sources.items()}  # of a path, or a hub's name
    start = ", ".join(f"{end} ({part})" if part else end for part, end in ends.items())
    lines = [
        f"- exported by {by['by']}{revision}; {versions}",
        f"- recipe `{experiment.name}`, seed {experiment.train.seed}",
        f"- training began with {f'the weights {start}' if start else 'fresh parameters'}",
    ]
    trained = _trained(trained_run)
    if trained:
        lines.append(f"- trained in {trained['seconds']:,.0f} s on {trained['devices']}")
    flags = _flags(trained_run)
    shown = "".join(f" {flag}" for flag in flags[:LISTED])
    lines.append(f"- command: `suite train {experiment.name}{shown}`")
    if len(flags) > LISTED:
        lines.append(f"- and {len(flags) - LISTED} more fields that differ from the recipe")
    return [*lines, "- all settings: `experiment.json`"]


def _trained(trained_run: Run) -> dict[str, Any]:
    """What training said of itself, if it ended."""
    result = trained_run.folder / "result.json"
    trained: dict[str, Any] = json_files.read_object(result).get("trained", {}) if result.exists() else {}
    return trained


def _flags(trained_run: Run) -> list[str]:
    """What the run's experiment says other than the recipe of its name, if there is one, as flags."""
    try:
        recipe = serialization.to_json(recipes.load(trained_run.experiment.name))
    except InputError:
        return []
    stored = json_files.read_object(trained_run.folder / "experiment.json")
    changed = {
        name: value
        for name, (_, value) in differences(recipe, stored).items()
        if not name.endswith((".class", ".file")) and name != "privacy.key"
    }
    return [f"--{name} {_written(without_folders(value))}" for name, value in changed.items()]


def _written(value: Any) -> str:
    return " ".join(map(_written, value)) if isinstance(value, list) else shlex.quote(str(value))
