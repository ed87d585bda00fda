"""train, evaluate, launch: what takes part in a run of one process or several."""

from typing import Any

from suite.cli.options import Options, allow, apply_flags, no_more, resolve, split_options, word
from suite.errors import InputError


def train(arguments: list[str]) -> None:
    """suite train EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR [--continue]] |
    train --resume RUN [--parallel.AXIS N ...]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite.parallel import rendezvous

    options = split_options(
        arguments, ("data", "run-dir", "resume", "allow", *rendezvous.FLAGS), ("smoke", "offline", "continue")
    )
    with rendezvous.joined(rendezvous.find_place(options.named)):
        _finish(_trained(options))


def _trained(options: Options) -> Any:
    from suite.parallel import hosts
    from suite.runs import verbs
    from suite.runtime.files import is_run

    if "resume" in options.named:
        _, others = _parallel_flags(options.rest)
        no_more(options.words + others, "train --resume RUN takes the experiment as it is stored, but for --parallel")
        return _resumed(options.named["resume"], options)
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "train")
    folder = options.named.get("run-dir", "")
    if "continue" not in options.named:
        return verbs.train(experiment, folder)
    if not folder:
        raise InputError(
            "flag --continue",
            "goes on with a run that has begun, in a folder that is named.",
            fix="--run-dir DIR --continue",
        )
    begun = hosts.agreed(lambda: is_run(folder))
    return _resumed(folder, options) if begun else verbs.train(experiment, folder)


def _resumed(folder: str, options: Options) -> Any:
    """The run goes on with its stored experiment, on the mesh that the flags name, if they do."""
    from suite.runs import verbs

    flags, _ = _parallel_flags(options.rest)
    if not flags:
        return verbs.resume(folder, allow(options))
    changed = apply_flags(verbs.stored(folder, allow(options)), flags, f"suite train --resume {folder}")
    return verbs.resume(folder, allow(options), parallel=changed.parallel)


def _parallel_flags(rest: list[str]) -> tuple[list[str], list[str]]:
    """``--parallel.AXIS`` flags with their values, and everything else."""
    parallel: list[str] = []
    others: list[str] = []
    items = iter(rest)
    for item in items:
        if not item.startswith("--parallel."):
            others.append(item)
        else:
            parallel += [item] if "=" in item else [item, next(items, "")]
    return parallel, others


def _finish(run: Any) -> None:
    from suite.parallel import hosts

    if not hosts.is_first():
        return
    for name, value in run.metrics.items():
        print(f"{name:32} {value:.6g}")
    origin = run.experiment.task.data.origin
    if origin:
        print(f"data: {origin}")
    goal = run.experiment.goal
    reached = run.metrics.get(f"{goal.on}/{goal.metric}") if goal else None
    if goal and reached is not None:
        print(f"goal {goal}: {'met' if goal.met(reached) else 'not met'}")
    print(run.folder)
