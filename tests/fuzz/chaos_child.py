"""Forks trainings whose imports are done, each with the faults that it is asked for; run as a script by test_chaos.

A line of JSON asks: ``{"arguments": [...], "log": ..., "steps": ..., "pause": ..., "fault": {...}}`` starts a command
line in a session of its own and is answered with its process id, ``{"wait": id}`` with its exit code or null.
"""

import functools
import importlib
import importlib.util
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    for name in ("orbax.checkpoint.experimental.v1", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.datasets"):
        if importlib.util.find_spec(name.partition(".")[0]):  # scikit-learn takes pandas where it is installed
            importlib.import_module(name)  # what each of them would spend seconds on
    import suite.cli.app
    import suite.configs
    import suite.runs.verbs
    import suite.tasks
    import suite.training.trainer  # noqa: F401

    assert threading.active_count() == 1, "a fork of a process with threads"
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            ended, status = os.waitpid(asked["wait"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if ended else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _train(asked)
            return
        print(pid, flush=True)


def _train(asked: dict) -> None:
    """Run the command line of one training, to its end and the interpreter's."""
    import suite.runs.verbs as verbs
    from suite.cli import app

    os.setsid()
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    steps = os.open(asked["steps"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    write, fit = os.write, verbs.fit

    def note(item) -> None:
        write(steps, f"{item.first}\n".encode())
        time.sleep(asked["pause"])

    def noted(experiment, folder: Path, **given):
        return fit(experiment, folder, **{**given, "on_dispatch": note})

    verbs.fit = noted
    _break(asked.get("fault") or {})
    sys.argv = ["suite", *asked["arguments"]]
    app.main()


def _break(fault: dict) -> None:
    """Have the operating system fail: a call of a function, from one on, for so many; or a clock that jumps."""
    if fault.get("clock"):
        clock, calls = time.time, itertools.count()
        time.time = lambda: clock() + (fault["clock"] if next(calls) > fault["after"] else 0)
    if fault.get("call"):
        function, calls = getattr(os, fault["call"]), itertools.count()

        @functools.wraps(function)
        def failing(*given, **named):
            if 0 <= next(calls) - fault["after"] < fault["times"]:
                raise OSError(fault["errno"], os.strerror(fault["errno"]))
            return function(*given, **named)

        setattr(os, fault["call"], failing)
    if fault.get("bytes"):
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
