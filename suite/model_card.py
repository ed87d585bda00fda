"""The model card of a bundle: what is known of a model, and what is not, for people who are to use it."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from suite import config, experiments
from suite.base import Codec, Data, Input
from suite.config import Experiment
from suite.data.columns import origin
from suite.data.memory import SPLITS
from suite.errors import InputError
from suite.run import Run

LISTED = 20
"""Most classes, and most fields that differ from the recipe, that a card lists."""


def write(made: Run, content: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> str:
    """The card, in Markdown.

    Args:
        made: the run that became a bundle.
        content: of the bundle's manifest.
        weights: of the model, by name.
    """
    experiment = made.experiment
    codec = experiment.task.codec
    sections = {
        "What it does": _purpose(experiment, codec, content, weights),
        "Data": _data(experiment),
        "Metrics": _metrics(experiment, content["metrics"]),
        "Limits": _limits(codec, content),
        "Intended use": ["Not stated by those who made it. It was trained and measured on the data above alone: what "
                         "it does on other data, and to whom it is fair, was not looked at."],
        "Licence": [content["made"]["licence"] or "Not stated. Data and the weights that training began with may set "
                    "terms of their own."],
        "How it was made": _making(experiment, content),
    }  # fmt: skip
    return "\n\n".join([f"# {content['name']}", *("\n".join([f"## {title}", "", *lines])
                                                  for title, lines in sections.items())]) + "\n"  # fmt: skip


def _purpose(experiment: Experiment, codec: Codec, content: Mapping[str, Any],
             weights: Mapping[str, np.ndarray]) -> list[str]:  # fmt: skip
    task, model = type(experiment.task), type(experiment.model)
    about = (inspect.getdoc(inspect.getmodule(task)) or "").partition("\n")[0].rstrip(".")
    count = sum(array.size for name, array in weights.items() if name.startswith("params/"))
    answers = ", ".join(f"`{name}`" for name in codec.answer_schema["properties"])
    return [
        f"{about}. A model of `{model.__module__}` with {count:,} parameters, computing in "
        f"{experiment.precision.compute}.",
        "", "A request gives:", "", *map(_input, codec.inputs[:LISTED]),
        *([f"- and {len(codec.inputs) - LISTED} more"] if len(codec.inputs) > LISTED else []),
        "", f"An answer has {answers}.",
    ]  # fmt: skip


def _input(each: Input) -> str:
    optional = "" if each.required else ", may be absent"
    return f"- `{each.name}` ({each.kind}{optional}): {each.description}"


def _data(experiment: Experiment) -> list[str]:
    task = experiment.task
    data = getattr(task, "data", None)
    source = "Its origin is not known."
    if isinstance(data, Data):
        source = f"{origin(data)}, read by `{type(data).__module__}.{type(data).__name__}`."
    lines = [source, "", "| split | records | left out by cleaning |", "|---|---|---|"]
    for split in SPLITS:
        try:
            records = task.source(split)
        except InputError as error:
            lines.append(f"| {split} | none | {error.problem} |")
            continue
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in records.dropped.items())
        lines.append(f"| {split} | {len(records):,} | {dropped or 'none'} |")
    labels = getattr(task, "labels", None)
    if labels is not None:
        shown = ", ".join(labels.names[:LISTED]) + (" ..." if len(labels.names) > LISTED else "")
        lines += ["", f"Classes, {len(labels.names)}: {shown}."]
    return [*lines, "", "Who is in the data, how it was gathered and under which terms is not known here."]


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


def _limits(codec: Codec, content: Mapping[str, Any]) -> list[str]:
    units = {"text": "characters", "audio": "seconds", "image": "pixels", "list": "items"}
    lines = [f"- `{each.name}`: at most {each.limit:,.0f} {units[each.kind]}" for each in codec.inputs
             if each.limit and each.kind in units]  # fmt: skip
    if content["lengths"] != [0]:
        lines.append(f"- rows are padded to one of {', '.join(map(str, content['lengths']))}; longer ones are refused")
    lines.append(f"- programs for {', '.join(content['platforms'])}, on one device")
    return [*lines, "- probabilities are the model's own: whether they hold on new data was not checked"]


def _making(experiment: Experiment, content: Mapping[str, Any]) -> list[str]:
    made = content["made"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    lines = [f"- exported on {made['date']} by {made['by']}" + (f", revision {made['revision']}" if made["revision"]
             else ""), f"- {versions}", f"- recipe `{experiment.name}`, seed {experiment.train.seed}"]  # fmt: skip
    start = experiment.checkpoint.init_from
    lines.append(f"- training began with {f'the weights {start}' if start else 'fresh parameters'}")
    changed = list(_changed(experiment))
    flags = " ".join(f"--{name} {value}" for name, value in changed[:LISTED])
    lines += [f"- command: `suite train {experiment.name}{' ' if flags else ''}{flags}`"]
    if len(changed) > LISTED:
        lines.append(f"- and {len(changed) - LISTED} more fields that differ from the recipe, see `experiment.json`")
    return [*lines, "- all settings: `experiment.json`"]


def _changed(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    """Fields that differ from the recipe of that name, if there is one."""
    try:
        recipe = config.to_json(experiments.load(experiment.name))
    except InputError:
        return
    yield from _differences("", recipe, config.to_json(experiment))


def _differences(name: str, one: Any, other: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(one, dict) and isinstance(other, dict) and one.get("class") == other.get("class"):
        for key in other:
            if key not in ("class", "file"):
                yield from _differences(f"{name}.{key}" if name else key, one.get(key), other[key])
    elif one != other:
        yield name, other["class"] if isinstance(other, dict) and "class" in other else other
