"""The process that trials are forked from: see `suite.serving.nursery`."""

import json
import os
import resource
import select
import signal
import socket
import sys
import warnings

from suite.runtime import child
from suite.serving import trial_process
from suite.serving.nursery import IDLE_SECONDS

_LOOK_SECONDS = 0.02
"""Between looks of a watcher at what it watches."""


def main(descriptor: int) -> None:
    """Forks a trial for each request, until the connection is closed or nothing has been asked for a while.

    Args:
        descriptor: of the connection to the server.
    """
    child.limit(resource.RLIMIT_CORE, 0)
    child.end_with(os.getppid())
    trial_process.load()
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")  # no device has been asked for, no threads
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers are nobody's concern
    with socket.socket(fileno=descriptor) as server:
        while select.select([server], [], [], IDLE_SECONDS)[0] or _has_children():
            if not select.select([server], [], [], 0)[0]:
                continue
            request, descriptors, _, _ = socket.recv_fds(server, 1 << 20, 2)
            if not request:
                return
            parent = os.getpid()
            if not os.fork():
                child.end_with(parent)
                server.close()
                _watch(json.loads(request), *descriptors)
            for each in descriptors:
                os.close(each)


def _has_children() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def _watch(request: dict[str, object], told: int, errors: int) -> None:
    """Forks the trial, and waits for its end or for that of the connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watcher = os.getpid()
    trial = os.fork()
    if not trial:
        _become_trial(request, told, errors, watcher)
    os.close(errors)
    connection = socket.socket(fileno=told)
    ended = 0
    while not ended:
        if select.select([connection], [], [], _LOOK_SECONDS)[0]:  # nothing is ever sent: it was closed
            os.kill(trial, signal.SIGKILL)
            ended, status = os.waitpid(trial, 0)
        else:
            ended, status = os.waitpid(trial, os.WNOHANG)
    try:
        connection.sendall(json.dumps({"ended": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
    finally:
        os._exit(0)


def _become_trial(request: dict[str, object], told: int, errors: int, watcher: int) -> None:
    child.end_with(watcher)
    os.setsid()
    os.dup2(errors, 1)  # what libraries print is not taken for a line of ours
    os.dup2(errors, 2)
    os.close(errors)
    with os.fdopen(told, "w") as output:
        trial_process.answer(request, output)
    sys.stderr.flush()
    os._exit(0)  # threads may still compute
