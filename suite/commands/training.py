"""train, evaluate, launch: what takes part in a run of one process or several."""

import sys
from typing import Any

from suite.commands.options import Options, allow, apply_flags, no_more, resolve, split_options, word
from suite.errors import InputError


def train(arguments: list[str]) -> None:
    """suite train EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR [--continue]] |
    train --resume RUN [--parallel.AXIS N ...]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite.distributed import joining

    options = split_options(
        arguments, ("data", "run-dir", "resume", "allow", *joining.FLAGS), ("smoke", "offline", "continue")
    )
    with joining.joined(joining.find_place(options.named)):
        _finish(_trained(options))


def _trained(options: Options) -> Any:
    from suite import run
    from suite.config import is_run
    from suite.distributed import hosts

    if "resume" in options.named:
        _, others = _parallel_flags(options.rest)
        no_more(options.words + others, "train --resume RUN takes the experiment as it is stored, but for --parallel")
        return _resumed(options.named["resume"], options)
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "train")
    folder = options.named.get("run-dir", "")
    if "continue" not in options.named:
        return run.train(experiment, folder)
    if not folder:
        raise InputError(
            "flag --continue",
            "goes on with a run that has begun, in a folder that is named.",
            fix="--run-dir DIR --continue",
        )
    begun = hosts.agreed(lambda: is_run(folder))
    return _resumed(folder, options) if begun else run.train(experiment, folder)


def _resumed(folder: str, options: Options) -> Any:
    """The run goes on with its stored experiment, on the mesh that the flags name, if they do."""
    from suite import run

    flags, _ = _parallel_flags(options.rest)
    if not flags:
        return run.resume(folder, allow(options))
    changed = apply_flags(run.stored(folder, allow(options)), flags, f"suite train --resume {folder}")
    return run.resume(folder, allow(options), parallel=changed.parallel)


def _parallel_flags(rest: list[str]) -> tuple[list[str], list[str]]:
    """``--parallel.AXIS`` flags with their values, and everything else."""
    kept: list[str] = []
    others: list[str] = []
    items = iter(rest)
    for item in items:
        if not item.startswith("--parallel."):
            others.append(item)
        else:
            kept += [item] if "=" in item else [item, next(items, "")]
    return kept, others


def evaluate(arguments: list[str]) -> None:
    """suite evaluate RUN|BUNDLE [--split test] [--batch-size N] [--allow PACKAGE]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite import folders
    from suite.config import is_bundle
    from suite.distributed import joining

    options = split_options(arguments, ("split", "batch-size", "allow", *joining.FLAGS))
    no_more(options.words[1:] + options.rest, "suite evaluate RUN [--split test] [--batch-size N]")
    size = options.named.get("batch-size", "0")
    if not size.isdecimal():
        raise InputError("flag --batch-size", f'"{size}" is no number of rows.', fix="--batch-size 64")
    folder, split = word(options, "RUN", "the folder that suite train printed last"), options.named.get("split", "test")
    if is_bundle(folder):
        from suite.exporting.measuring import measured

        for name, about in measured(folder, split, int(size), allow(options)).metrics.items():
            print(f"{name:32} {about['value']:.6g}")
        print(folder)
        return
    with joining.joined(joining.find_place(options.named)):
        _finish(folders.evaluate(folder, split, int(size), allow(options)))


def launch(arguments: list[str]) -> None:
    """suite launch --processes N -- train EXPERIMENT ... | suite launch --processes N -- evaluate RUN ..."""
    from suite.distributed import launching

    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, dashes, command = arguments[:at], arguments[at : at + 1], arguments[at + 1 :]
    options = split_options(own, ("processes",))
    usage = "suite launch --processes 2 -- train EXPERIMENT"
    no_more(options.words + options.rest, usage)
    number = options.named.get("processes", "")
    if not dashes or not number.isdecimal():
        problem = f'"{number}" is no number of processes.' if number else "or the -- before the verb is missing."
        raise InputError("flag --processes", problem, fix=usage)
    if code := launching.launch(int(number), command):
        sys.exit(code)


def _finish(made: Any) -> None:
    from suite.distributed import hosts

    if not hosts.is_first():
        return
    for name, value in made.metrics.items():
        print(f"{name:32} {value:.6g}")
    origin = getattr(getattr(made.experiment.task, "data", None), "origin", "")
    if origin:
        print(f"data: {origin}")
    goal = made.experiment.goal
    reached = made.metrics.get(f"{goal.on}/{goal.metric}") if goal else None
    if goal and reached is not None:
        print(f"goal {goal}: {'met' if goal.met(reached) else 'not met'}")
    print(made.folder)
