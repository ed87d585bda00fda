"""list, doctor, data inspect, plan: what can be known before a run."""

from suite.cli.options import resolve, split_options, word
from suite.errors import InputError


def inspect(arguments: list[str]) -> None:
    """suite data inspect EXPERIMENT | suite data inspect --data PATH"""
    from suite.data.inspection import inspect as look
    from suite.data.inspection import render
    from suite.data.sources.datasets import from_path
    from suite.training.preprocessors import column_of, preprocessors_of

    if arguments[:1] != ["inspect"]:
        given = " ".join(arguments[:1]) or "nothing"
        raise InputError("verb", "data has one verb, inspect.", found=given, fix="suite data inspect --data PATH")
    options = split_options(arguments[1:], ("data",))
    if "data" in options.named and not options.words:
        print(render(look(from_path(options.named["data"]).open)))
        return
    experiment = resolve(word(options, "EXPERIMENT", "suite data inspect --data PATH"), options, "data inspect")
    task = experiment.task
    print(render(look(task.data.open)))  # type: ignore[attr-defined]
    for name, asset in preprocessors_of(task).items():
        about = asset.describe(task.source("train"), column_of(task, name, asset))
        if about:
            print(about)
