"""suite data inspect: what is in the records."""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.cli.flags import Verb, word
from suite.cli.shared_flags import OfExperiment
from suite.errors import InputError

if TYPE_CHECKING:
    from suite.contracts.data import Data
    from suite.data.suggestion import Suggestion


@dataclass(frozen=True, kw_only=True)
class Inspect(OfExperiment):
    """Shows what is in a dataset (counts, balance, ranges, lengths, duplicates) and recommends the recipe that fits."""

    verb = "data inspect"
    examples = (
        "suite data inspect --data reviews.csv",
        "suite data inspect --data reviews.csv --task.text review --task.label verdict",
        "suite data inspect vision.digits_dnn",
    )

    experiment: str = word("EXPERIMENT", example="text.classify", fix="suite list", default="")
    """Name of a recipe whose task reads the records; without it one is recommended."""


def inspect(given: Inspect) -> None:
    from suite.training.preprocessors import column_of, preprocessors_of

    if not given.experiment and not given.data:
        raise InputError("EXPERIMENT, or --data", "is missing.", fix=Inspect.examples[0])
    advice = None if given.experiment else _suggestion(given.data)
    recipe = given.experiment or (advice.recipe if advice else "")
    if not given.experiment and not given.fields:
        from suite.data.sources.datasets import from_path

        label = _value_of("--task.label", advice.flags) if advice else ""
        data = from_path(given.data)
        _report(data.with_classes(label) if label else data, label)
    else:
        if not recipe:
            raise InputError("EXPERIMENT", "is missing: no recipe fits these records by itself.", fix="suite list")
        named = dict(zip(advice.flags[::2], advice.flags[1::2], strict=True)) if advice else {}
        columns = {flag.removeprefix("--"): column for flag, column in named.items()}
        task: Any = dataclasses.replace(given, experiment=recipe).resolved(columns).task
        _report(task.split_data, getattr(task, "label", ""))
        for name, asset in preprocessors_of(task).items():
            about = asset.describe(task.source("train"), column_of(task, name, asset))
            if about:
                print(about)
    if advice:
        _recommend(advice, given)


def _report(data: "Data", label: str) -> None:
    """Print what the records are, in the splits of training.

    Raises:
        InputError: no split can be opened.
    """
    from suite.data.inspection import inspect as look
    from suite.data.inspection import render

    splits = (report := look(data.open, labels=(label,)))["splits"]
    if all("missing" in part for part in splits.values()):
        data.open(next(iter(splits)))  # raises why
    print(render(report))


def _suggestion(path: str) -> "Suggestion | None":
    """The recipe for these records; None where there are none to train on, which the report says."""
    from suite.data.sources.datasets import from_path
    from suite.data.suggestion import suggested
    from suite.experiment import recipes

    data = from_path(path)
    try:
        return suggested(data, recipes.names())
    except InputError:
        return None


def _recommend(advice: "Suggestion", given: Inspect) -> None:
    """The command to go on with; fields that were given stand for those that are suggested."""
    if not advice.recipe:
        print(f"\nrecipe: none fits: {advice.why}")
        return
    if fault := _refusal(advice, given):
        print(f"\nrecipe: {advice.recipe} for {advice.why}, but it does not take these records yet:\n  {fault}")
        return
    print(f"\nrecipe: {advice.recipe}, for {advice.why}")
    flags = _others(advice.flags, given.fields)
    settled = any(field.partition("=")[0] == "--task.label" for field in given.fields)
    for label in advice.labels if advice.labels and not settled else ("",):
        of = ["--task.label", label] if label else []
        print("  " + shlex.join(["suite", "train", advice.recipe, "--data", given.data, *flags, *of, *given.fields]))


def _refusal(advice: "Suggestion", given: Inspect) -> str:
    """What the recommended recipe says against these records, such as paths that lead nowhere; empty: nothing."""
    flags = _others(advice.flags, given.fields)
    columns = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
    if advice.labels:
        columns.setdefault("task.label", advice.labels[0])
    try:
        dataclasses.replace(given, experiment=advice.recipe).resolved(columns).task.source("train")
    except InputError as error:
        return str(error).replace("\n", "\n  ")
    return ""


def _others(flags: tuple[str, ...], fields: tuple[str, ...]) -> list[str]:
    """Flags with their values, without those that were given otherwise."""
    named = {field.partition("=")[0] for field in fields}
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [part for flag, value in pairs if flag not in named for part in (flag, value)]


def _value_of(flag: str, flags: tuple[str, ...]) -> str:
    return flags[flags.index(flag) + 1] if flag in flags else ""


VERB = Verb(Inspect, inspect)
