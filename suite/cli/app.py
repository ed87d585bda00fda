"""The command line: each verb is a function of ``suite``, printed for people; ``result.json`` is for programs.

Exit codes: 0 done, 1 the run failed, 2 the user's input was refused, 3 a goal or a --max-drop was missed, 75 training
was interrupted and can go on, 141 the reader of the output has gone.
Nothing heavy is imported before a verb is known, so ``suite --help`` answers at once.
"""

import logging
import os
import re
import select
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from suite import distribution
from suite.cli import (
    audit,
    baseline,
    compare,
    completion,
    compress,
    convert,
    data_inspect,
    doctor,
    drift,
    evaluate,
    explain,
    export,
    fit,
    launch,
    plan,
    predict,
    publish,
    report,
    run,
    serve,
    train,
    tune,
)
from suite.cli import help as help_
from suite.cli import list as list_
from suite.cli.flags import HELP, Verb, is_flag, nearest, options, replaced
from suite.errors import InputError, Interrupted, Missed, RunError
from suite.runtime import allocation, files

UNREAD = 141
"""128 + SIGPIPE, as a shell reports a program whose output nobody reads any more."""
INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: what a scheduler may start again."""
MISSED = 3
"""All was done, and what was to be reached was not."""

VERBS: dict[str, Verb] = {
    module.VERB.name: module.VERB
    for module in (
        list_,
        doctor,
        data_inspect,
        plan,
        train,
        tune,
        fit,
        evaluate,
        audit,
        baseline,
        drift,
        predict,
        explain,
        compress,
        report,
        compare,
        convert,
        export,
        serve,
        publish,
        run,
        launch,
    )
}
VERBS["completion"] = completion.verb_of(VERBS)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb, by default that of this program. A refused input prints its one error and exits with 2."""
    if arguments is not None:
        _main(arguments)
        return
    code: Any = 0
    try:
        _main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code
    checkpoint = sys.modules.get("suite.training.checkpoint")
    if checkpoint is not None and checkpoint.saves_failed():
        _exit(code)
    sys.exit(code)


def _main(arguments: list[str]) -> None:
    try:
        try:
            _run(arguments)
        finally:
            sys.stdout.flush()  # here, where the reader's absence is handled, and not while the interpreter ends
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
    if not arguments or arguments[0] in (*HELP, "help"):
        print(help_.overview(VERBS))
        return
    if arguments[0] in ("--version", "-V", "version"):
        from suite import __version__

        print(f"suite {__version__}")
        return
    name, rest = _split(arguments)
    try:
        verb = _verb(name, rest)
        if _asks_for_help(verb, rest):
            print(help_.page(verb))
            return
        if name != "serve":  # which dates its lines
            _log_plainly()
        allocation.keep_memory(early=True)
        verb(rest)
    except InputError as error:
        _end(f"suite {name}: {_advised(error, name, rest)}", 2)
    except Missed as error:
        _end(f"suite {name}: {error}", MISSED)
    except Interrupted as error:
        _end(f"suite {name}: {error}", INTERRUPTED)
    except RunError as error:
        _end(f"suite {name}: {error}", 1)
    except OSError as error:
        if not files.is_disk_fault(error):
            _fail(name, error)
        _end(f"suite {name}: {files.storage_error(error, 'a file could not be written or read')}", 1)
    except KeyboardInterrupt:
        _end(f"suite {name}: stopped; go on with suite train --resume RUN", 1)
    except Exception as error:
        _fail(name, error)


def _log_plainly() -> None:
    """Lines of the log as they are: a library that logs by the root would otherwise have all of them begin with the
    name of a module."""
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)


def _fail(name: str, error: Exception) -> NoReturn:
    """What nobody foresaw: a traceback, which all processes of a run come to together; or an extra that lacks."""
    lacking = distribution.of_module(error.name or "") if isinstance(error, ModuleNotFoundError) else None
    if lacking is not None:
        _end(f"suite {name}: {lacking}", 2)
    if (watch := _watch()) is None:
        raise error
    watch.explain()
    traceback.print_exc()
    watch.leave(f"{type(error).__name__}: {error}", 1)
    _exit(1)


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb, of one word or two, and the arguments behind it."""
    two = " ".join(arguments[:2])
    within = [verb for verb in VERBS if verb.startswith(f"{arguments[0]} ")]
    if len(within) == 1 and arguments[0] not in VERBS and arguments[1:2] in (["--help"], ["-h"]):
        return within[0], arguments[1:]
    if two in VERBS or (arguments[0] not in VERBS and within):
        return two, arguments[2:]
    return arguments[0], arguments[1:]


def _verb(name: str, rest: list[str]) -> Verb:
    """The verb of this name. Raises InputError: there is none."""
    if name in VERBS:
        return VERBS[name]
    within = [verb for verb in VERBS if verb.startswith(f"{name.split()[0]} ")]
    near = within or nearest(name, VERBS)
    fix = shlex.join(["suite", *near[0].split(), *(rest or ["--help"])]) if near else "suite --help"
    raise InputError(f'verb "{name}"', "is unknown.", found=", ".join(near or VERBS), fix=fix)


def _asks_for_help(verb: Verb, rest: list[str]) -> bool:
    """Whether the help of the verb is asked for; behind the name of an experiment it is that of its fields."""
    behind = rest.index("--") if "--" in rest else len(rest)
    asked = any(word in HELP for word in rest[:behind])
    return asked and (not verb.flags.takes_fields or rest[0].startswith("-") or verb.name == "compress")


def _advised(error: InputError, name: str, arguments: list[str]) -> InputError:
    """The error with its advice as a complete command, where it is flags of the verb that was called."""
    verb = VERBS.get(name)
    if verb is None:
        return error
    meant = re.fullmatch(r'(?:[\w -]+ )?"(.+)"', error.where)
    wrong = meant[1] if meant else error.where
    plain = error.fix and (not re.search(r"\s", error.fix) or Path(error.fix).exists())
    if wrong in arguments and plain:  # a name or a path that is nearly right
        right = [error.fix if word == wrong else word for word in arguments]
        fix = shlex.join(["suite", *name.split(), *right])
        return InputError(error.where, error.problem, found=error.found, fix=fix)
    own = {option.name for option in options(verb.flags)}
    if not is_advice(error.fix):
        # "correct the record, or --task.fields.categorical sex": the second is for training alone.
        first, otherwise, flag = error.fix.partition(", or --")
        if not otherwise or verb.flags.takes_fields or f"--{flag.split()[0]}" in own:
            return error
        return InputError(error.where, error.problem, found=error.found, fix=first)
    flags = shlex.split(error.fix)
    foreign = [item for item in flags if is_flag(item) and item.partition("=")[0].replace("_", "-") not in own]
    if foreign and not verb.flags.takes_fields:
        fix = f"train with {error.fix}"
    else:
        fix = replaced(arguments, flags, verb.flags)
    return InputError(error.where, error.problem, found=error.found, fix=fix)


def is_advice(fix: str) -> bool:
    """Whether a fix is made of flags and their values, ready to be typed."""
    try:
        words = shlex.split(fix)
    except ValueError:
        return False
    prose = any(word in ("or", "and") or (word.endswith(",") and " " not in word) for word in words)
    return bool(words) and is_flag(words[0]) and not prose


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
