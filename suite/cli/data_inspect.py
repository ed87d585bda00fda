"""suite data inspect: what is in the records."""

from dataclasses import dataclass

from suite.cli.common import OfExperiment
from suite.cli.flags import Verb, word
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inspect(OfExperiment):
    """Shows what is in a dataset: counts, balance, lengths, broken and duplicate records, samples."""

    verb = "data inspect"
    examples = (
        "suite data inspect --data reviews.csv",
        "suite data inspect text.classify --data reviews.csv --task.text review",
    )

    experiment: str = word("EXPERIMENT", example="text.classify", fix="suite list", default="")
    """Name of a recipe whose task reads the records; without it they are shown as they are."""


def inspect(given: Inspect) -> None:
    from suite.data.inspection import inspect as look
    from suite.data.inspection import render
    from suite.data.sources.datasets import from_path
    from suite.training.preprocessors import column_of, preprocessors_of

    if not given.experiment:
        if not given.data:
            raise InputError("EXPERIMENT, or --data", "is missing.", fix=Inspect.examples[0])
        if given.fields:
            raise InputError(
                f"flag {given.fields[0]}", "is a field of an experiment, and none is named.", fix="suite list"
            )
        print(render(look(from_path(given.data).open)))
        return
    task = given.resolved().task
    label = getattr(task, "label", "")
    data = task.data.with_classes(label) if label else task.data  # with the splits of training
    print(render(look(data.open, labels=(label,))))
    for name, asset in preprocessors_of(task).items():
        about = asset.describe(task.source("train"), column_of(task, name, asset))
        if about:
            print(about)


VERB = Verb(Inspect, inspect)
