"""The command line: each verb is a function of ``suite``, printed for people; ``result.json`` is for programs.

Exit codes: 0 done, 1 the run failed, 2 the user's input was refused, 75 training was interrupted and can go on.
Nothing heavy is imported before a verb is known, so ``suite --help`` answers at once.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from suite.errors import InputError, Interrupted, RunError, closest

if TYPE_CHECKING:
    from suite.config import Experiment

INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: what a scheduler may start again."""

HELP = """usage: suite VERB ...

  list [text|vision|speech|recommendation]      experiments with expected metric, time, data
  doctor                                        versions, devices, memory, data folders; the fix for each fault
  data inspect EXPERIMENT | --data PATH         counts, balance, lengths, broken and duplicate records, samples
  plan EXPERIMENT [--devices NAME]              parameters, FLOPs, memory a device, step time; what to change
  train EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR [--continue]] | train --resume RUN
      [--checkpoint.init_from RUN|FOLDER|OWNER/NAME [--offline]]
  evaluate RUN [--split test] [--batch-size N]  metrics on a split
  predict RUN --input TEXT|FILE|FOLDER|-        JSON lines out, one a record
  convert RUN|FOLDER|OWNER/NAME --to FOLDER     weights as the original library reads them; --delta: what was trained
  launch --processes N -- train EXPERIMENT ...  N processes on this machine, as a pod would run them

EXPERIMENT is a dotted name that `suite list` prints, or a path to a .py file with experiment().
`suite VERB --help` lists the flags of a verb; `suite train EXPERIMENT --help` every field of that experiment."""


@dataclass(frozen=True)
class Options:
    """Flags of a verb that are not fields of the experiment.

    Attributes:
        words: positional arguments.
        named: flag name without dashes -> value.
        rest: everything else, for tyro.
    """

    words: list[str]
    named: dict[str, str]
    rest: list[str]


def split_options(arguments: list[str], flags: tuple[str, ...], switches: tuple[str, ...] = ()) -> Options:
    """Take ``flags`` (with a value), ``switches`` (without) and leading words out of ``arguments``."""
    words: list[str] = []
    named: dict[str, str] = {}
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        name, has_value, value = item.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if item.startswith("--") and name in switches:
            named[name] = "yes"
        elif item.startswith("--") and name in flags:
            named[name] = value if has_value else next(items, "")
            if not named[name]:
                raise InputError(f"flag --{name}", "needs a value.")
        elif item.startswith("-") or rest:
            rest.append(item)
        else:
            words.append(item)
    return Options(words, named, rest)


def resolve(name: str, options: Options, verb: str) -> "Experiment":
    """The experiment ``name`` with ``--data`` and the ``--section.field`` flags applied."""
    from suite import config, experiments

    experiment = experiments.load(name, smoke="smoke" in options.named)
    if "data" in options.named:
        from suite.data.sources import from_path

        experiment = config.replace(experiment, {"task.data": from_path(options.named["data"])})
    if "offline" in options.named:
        experiment = config.replace(experiment, {"checkpoint.offline": True})
    return apply_flags(experiment, options.rest, f"suite {verb} {name}")


def apply_flags(experiment: "Experiment", arguments: list[str], program: str) -> "Experiment":
    """Fields set by typed flags; tyro prints help, and suggestions on a typo, and exits with 2."""
    if not arguments:
        return experiment
    import tyro

    from suite.config import Experiment

    arguments = [re.sub(r"^--finetune(?==|$)", "--finetune.kind", argument) for argument in arguments]
    about = f"Every field of the experiment. Other flags: {' '.join(program.split()[:2])} --help."
    return tyro.cli(Experiment, default=experiment, args=arguments, prog=program, description=about,
                    config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff), use_underscores=True)  # fmt: skip


def train(arguments: list[str]) -> None:
    """suite train EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR [--continue]] |
    train --resume RUN [--parallel.AXIS N ...]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite import joining

    options = split_options(arguments, ("data", "run-dir", "resume", "allow", *joining.FLAGS),
                            ("smoke", "offline", "continue"))  # fmt: skip
    with joining.joined(joining.find_place(options.named)):
        _finish(_trained(options))


def _trained(options: Options) -> Any:
    from suite import hosts, run
    from suite.config import is_run

    if "resume" in options.named:
        _, others = _parallel_flags(options.rest)
        _no_more(options.words + others, "train --resume RUN takes the experiment as it is stored, but for --parallel")
        return _resumed(options.named["resume"], options)
    experiment = resolve(_word(options, "EXPERIMENT", "suite list"), options, "train")
    folder = options.named.get("run-dir", "")
    if "continue" not in options.named:
        return run.train(experiment, folder)
    if not folder:
        raise InputError("flag --continue", "goes on with a run that has begun, in a folder that is named.",
                         fix="--run-dir DIR --continue")  # fmt: skip
    begun = hosts.agreed(lambda: is_run(folder))
    return _resumed(folder, options) if begun else run.train(experiment, folder)


def _resumed(folder: str, options: Options) -> Any:
    """The run goes on with its stored experiment, on the mesh that the flags name, if they do."""
    from suite import run

    flags, _ = _parallel_flags(options.rest)
    if not flags:
        return run.resume(folder, _allow(options))
    changed = apply_flags(run.stored(folder, _allow(options)), flags, f"suite train --resume {folder}")
    return run.resume(folder, _allow(options), parallel=changed.parallel)


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
    """suite evaluate RUN [--split test] [--batch-size N] [--allow PACKAGE]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite import joining, run

    options = split_options(arguments, ("split", "batch-size", "allow", *joining.FLAGS))
    _no_more(options.words[1:] + options.rest, "suite evaluate RUN [--split test] [--batch-size N]")
    size = options.named.get("batch-size", "0")
    if not size.isdecimal():
        raise InputError("flag --batch-size", f'"{size}" is no number of rows.', fix="--batch-size 64")
    with joining.joined(joining.find_place(options.named)):
        opened = run.open(_word(options, "RUN", "the folder that suite train printed last"), _allow(options))
        _finish(opened.evaluate(options.named.get("split", "test"), int(size)))


def launch(arguments: list[str]) -> None:
    """suite launch --processes N -- train EXPERIMENT ... | suite launch --processes N -- evaluate RUN ..."""
    from suite import launching

    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, dashes, command = arguments[:at], arguments[at : at + 1], arguments[at + 1 :]
    options = split_options(own, ("processes",))
    usage = "suite launch --processes 2 -- train EXPERIMENT"
    _no_more(options.words + options.rest, usage)
    number = options.named.get("processes", "")
    if not dashes or not number.isdecimal():
        problem = f'"{number}" is no number of processes.' if number else "or the -- before the verb is missing."
        raise InputError("flag --processes", problem, fix=usage)
    if code := launching.launch(int(number), command):
        sys.exit(code)


def predict(arguments: list[str]) -> None:
    """suite predict RUN --input TEXT|FILE|FOLDER|- [--allow PACKAGE]"""
    from suite import run

    options = split_options(arguments, ("input", "allow"))
    _no_more(options.words[1:] + options.rest, 'suite predict RUN --input "some text"')
    opened = run.open(_word(options, "RUN", "the folder that suite train printed last"), _allow(options))
    if "input" not in options.named:
        raise InputError("flag --input", "is missing.", fix='--input "some text", a file, a folder, or - for lines')
    for line in run.predict_input(opened, options.named["input"]):
        print(json.dumps(line, ensure_ascii=False))


def convert(arguments: list[str]) -> None:
    """suite convert RUN|FOLDER|OWNER/NAME --to FOLDER [--offline] [--delta] [--allow PACKAGE]"""
    from suite import run

    options = split_options(arguments, ("to", "allow"), ("offline", "delta"))
    usage = "suite convert RUN --to FOLDER"
    _no_more(options.words[1:] + options.rest, usage)
    source = _word(options, "RUN, FOLDER or OWNER/NAME", usage)
    if "to" not in options.named:
        raise InputError("flag --to", "is missing.", fix=usage)
    if "delta" in options.named:
        print(run.delta(source, options.named["to"], _allow(options)))
        return
    made = run.convert(source, options.named["to"], offline="offline" in options.named, allow=_allow(options))
    print(f"{made.format}: {made.tensors} tensors, {made.values:,} values")
    print(f"files: {', '.join(made.files)}")
    if made.left_out:
        print(f"left out: {', '.join(made.left_out)}")
    print(made.folder)


def plan(arguments: list[str]) -> None:
    """suite plan EXPERIMENT [--devices NAME] [--section.field VALUE ...] [--data PATH]"""
    from suite import planning, run

    options = split_options(arguments, ("data", "devices"), ("smoke", "offline"))
    experiment = resolve(_word(options, "EXPERIMENT", "suite list"), options, "plan")
    print(planning.render(run.plan(experiment, options.named.get("devices", ""))))


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
    experiment = resolve(_word(options, "EXPERIMENT", "suite data inspect --data PATH"), options, "data inspect")
    task = experiment.task
    print(render(look(task.data.open)))  # type: ignore[attr-defined]
    for asset in assets_of(task).values():
        about = asset.describe(task.source("train"), getattr(task, asset.of))
        if about:
            print(about)


def list_(arguments: list[str]) -> None:
    """suite list [text|vision|speech|recommendation]"""
    from suite import experiments

    _no_more(arguments[1:], "suite list [DOMAIN]")
    for entry in experiments.describe(*arguments[:1]):
        print(f"{entry['name']}\n    {entry['title']}")
        for key in ("data", "expected", "time"):
            print(f"    {key + ':':10}{entry.get(key, '')}")


def doctor(arguments: list[str]) -> None:
    """suite doctor"""
    from suite.diagnosis import doctor as examine
    from suite.diagnosis import render

    _no_more(arguments, "suite doctor")
    report = examine()
    print(render(report))
    if report["faults"]:
        sys.exit(1)


VERBS: dict[str, Callable[[list[str]], None]] = {
    "list": list_, "doctor": doctor, "data": inspect, "plan": plan, "train": train, "evaluate": evaluate,
    "predict": predict, "convert": convert, "launch": launch,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. A refused input prints its one error and exits with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in VERBS:
            fix = closest(verb, VERBS) or "suite --help"
            raise InputError(f'verb "{verb}"', "is unknown.", found=", ".join(VERBS), fix=fix)
        if rest and all(word in ("-h", "--help") for word in rest):
            print(f"usage: {VERBS[verb].__doc__}")
            return
        VERBS[verb](rest)
    except InputError as error:
        _end(f"suite {verb}: {error}", 2)
    except Interrupted as error:
        _end(f"suite {verb}: {error}", INTERRUPTED)
    except RunError as error:
        _end(f"suite {verb}: {error}", 1)
    except KeyboardInterrupt:
        _end(f"suite {verb}: stopped; go on with suite train --resume RUN", 1)
    except Exception as error:
        if (watch := _watch()) is None:
            raise
        watch.explain()
        traceback.print_exc()
        watch.leave(f"{type(error).__name__}: {error}", 1)
        _exit(1)


def _watch() -> Any:
    """The watch over the other processes of the run, if there are any."""
    joining = sys.modules.get("suite.joining")
    return joining.current() if joining else None


def _end(text: str, code: int) -> NoReturn:
    """Print why, once however many processes come to the same end, and leave."""
    watch = _watch()
    if watch is None or not watch.leave(text, code):
        print(text, file=sys.stderr, flush=True)
    if watch is None:
        sys.exit(code)
    if code == INTERRUPTED:
        from suite import joining

        joining.close()
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Without the runtime's own farewell, which waits for processes that may never come to theirs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _word(options: Options, name: str, fix: str) -> str:
    if not options.words:
        raise InputError(name, "is missing.", fix=fix)
    _no_more(options.words[1:], f"one {name}")
    return options.words[0]


def _no_more(extra: list[str], fix: str) -> None:
    if extra:
        raise InputError("arguments", f"{' '.join(extra)} is not understood.", fix=fix)


def _allow(options: Options) -> tuple[str, ...]:
    return tuple(filter(None, options.named.get("allow", "").split(",")))


def _finish(made: Any) -> None:
    from suite import hosts

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
