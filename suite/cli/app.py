"""The command line: each verb is a function of ``suite``, printed for people; ``result.json`` is for programs.

Exit codes: 0 done, 1 the run failed, 2 the user's input was refused, 3 a goal or a --max-drop was missed, 75 training
was interrupted and can go on, 141 the reader of the output has gone.
Nothing heavy is imported before a verb is known, so ``suite --help`` answers at once.
"""

import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from suite.cli import (
    compare,
    compress,
    convert,
    data_inspect,
    doctor,
    evaluate,
    export,
    launch,
    plan,
    predict,
    report,
    run,
    serve,
    train,
    tune,
)
from suite.cli import list as list_
from suite.errors import InputError, Interrupted, Missed, RunError, closest

UNREAD = 141
"""128 + SIGPIPE, as a shell reports a program whose output nobody reads any more."""
INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: what a scheduler may start again."""
MISSED = 3
"""All was done, and what was to be reached was not."""

HELP = """usage: suite VERB ...

  list [text|vision|speech|recommendation]      experiments with expected metric, time, data
  doctor                                        versions, devices, memory, data folders; the fix for each fault
  data inspect EXPERIMENT | --data PATH         counts, balance, lengths, broken and duplicate records, samples
  plan EXPERIMENT [--devices NAME]              parameters, FLOPs, memory a device, step time; what to change
  train EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR [--continue]] | train --resume RUN
      [--checkpoint.init_from RUN|FOLDER|OWNER/NAME|PART=SOURCE ... [--offline]]
  tune EXPERIMENT [--run-dir DIR] [--storage URL] train again with other settings until its goal is met
  evaluate RUN|BUNDLE [--split test] [--batch-size N]   metrics on a split
  predict RUN|BUNDLE --input TEXT|FILE|FOLDER|- [--program NAME] [--seed N] [--to FOLDER]
                                                JSON lines out, one a record; files into FOLDER
  compress RUN --quantize int8|int4|int8-dynamic|int8-static [--aware] | --prune SHARE | --distill EXPERIMENT
      [--max-drop X]                            smaller, and measured again
  report RUN [--split S] [--with RUN ...]       one HTML page: verdict, curves, mistakes, data, configuration, speed
  compare RUN RUN ... [--to FILE]               side by side with intervals; which differences are significant
  convert RUN|FOLDER|OWNER/NAME --to FOLDER     weights as the original library reads them; --delta: what was trained
  export RUN --to BUNDLE [--platforms cpu cuda tpu] [--name NAME] [--licence TEXT]   what a server needs, in one folder
      | export RUN --to huggingface | export --refresh BUNDLE
  serve BUNDLE [BUNDLE ...] [--port 8080]       answers over HTTP, and a web page to ask on
  run EXPERIMENT [--quantize int8] [--max-drop 0.005]   tune, compress, export, report: all of it, resumable
  launch --processes N -- train EXPERIMENT ...  N processes on this machine, as a pod would run them

EXPERIMENT is a dotted name that `suite list` prints, or a path to a .py file with experiment().
`suite VERB --help` lists the flags of a verb; `suite train EXPERIMENT --help` every field of that experiment."""

VERBS: dict[str, Callable[[list[str]], None]] = {
    "list": list_.list_,
    "doctor": doctor.doctor,
    "data": data_inspect.inspect,
    "plan": plan.plan,
    "train": train.train,
    "tune": tune.tune,
    "evaluate": evaluate.evaluate,
    "launch": launch.launch,
    "predict": predict.predict,
    "compress": compress.compress,
    "report": report.report,
    "compare": compare.compare,
    "convert": convert.convert,
    "export": export.export,
    "serve": serve.serve,
    "run": run.run,
}


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. A refused input prints its one error and exits with 2."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        sys.exit(UNREAD)


def _unread() -> bool:
    """Whether the reader of the output has gone, as ``head`` does. What is still to be printed is then dropped."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)  # an error of the pipe is told unasked
    gone = bool(poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # Python flushes once more where it ends
    return gone


def _run(arguments: list[str]) -> None:
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
    except Missed as error:
        _end(f"suite {verb}: {error}", MISSED)
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
    joining = sys.modules.get("suite.parallel.rendezvous")
    return joining.current() if joining else None


def _end(text: str, code: int) -> NoReturn:
    """Print why, once however many processes come to the same end, and leave."""
    watch = _watch()
    if watch is None or not watch.leave(text, code):
        print(text, file=sys.stderr, flush=True)
    if watch is None:
        sys.exit(code)
    if code == INTERRUPTED:
        from suite.parallel import rendezvous

        rendezvous.close()
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Without the runtime's own farewell, which waits for processes that may never come to theirs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
