"""list, doctor, data inspect, plan: what can be known before a run."""

import sys

from suite.commands.options import no_more, resolve, split_options, word
from suite.errors import InputError


def list_(arguments: list[str]) -> None:
    """suite list [text|vision|speech|recommendation]"""
    from suite import experiments

    no_more(arguments[1:], "suite list [DOMAIN]")
    for entry in experiments.describe(*arguments[:1]):
        print(f"{entry['name']}\n    {entry['title']}")
        for key in ("data", "expected", "time"):
            print(f"    {key + ':':10}{entry.get(key, '')}")


def doctor(arguments: list[str]) -> None:
    """suite doctor"""
    from suite.diagnosis import doctor as examine
    from suite.diagnosis import render

    no_more(arguments, "suite doctor")
    report = examine()
    print(render(report))
    if report["faults"]:
        sys.exit(1)


def inspect(arguments: list[str]) -> None:
    """suite data inspect EXPERIMENT | suite data inspect --data PATH"""
    from suite.assets import assets_of
    from suite.data.inspect import inspect as look
    from suite.data.inspect import render
    from suite.data.sources import from_path

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
    for asset in assets_of(task).values():
        about = asset.describe(task.source("train"), getattr(task, asset.of))
        if about:
            print(about)


def plan(arguments: list[str]) -> None:
    """suite plan EXPERIMENT [--devices NAME] [--section.field VALUE ...] [--data PATH]"""
    from suite import run
    from suite.planning import planning

    options = split_options(arguments, ("data", "devices"), ("smoke", "offline"))
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "plan")
    print(planning.render(run.plan(experiment, options.named.get("devices", ""))))
