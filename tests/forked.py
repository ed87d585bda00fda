"""Python processes whose imports are done: each is forked from one process that has loaded JAX and the suite.

A process of a test's own spends some two seconds of a processor before its first line, and a run of all tests starts
hundreds. One that is forked has its own arguments, variables, folder, session, memory and end, as any other; it asks
for devices itself, since the process that it is forked from has asked for none. Where what an interpreter begins with
is what is tested, such as what it imports, a test starts one by `subprocess`.
"""

import atexit
import functools
import gc
import importlib
import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent
_MOST = 1 << 20
_AT_IMPORT = ("JAX_", "PYTHON", "OMP_", "OPENBLAS_", "MALLOC_", "LD_", "HF_")
"""Variables that are read before a fork begins: where one differs, an interpreter is started."""
_LOADED = (
    *("fastapi", "prometheus_client", "uvicorn", "uvloop", "orbax.checkpoint.experimental.v1"),
    *("suite.bundles.bundle", "suite.cli.app", "suite.configs", "suite.runs.verbs", "suite.serving.server"),
    *("suite.tasks", "suite.training.trainer"),
)


def process(command, *, env=None, **given):
    """`subprocess.Popen` of a command that begins with this Python; forked where that is the same."""
    env = dict(os.environ) if env is None else env
    command = list(map(str, command))
    assert command[0] == sys.executable, command
    if sys.platform != "linux" or not _forker().would_be(env):
        return subprocess.Popen(command, env=env, **given)
    return _Forked(command, env=env, **given)


def run(command, *, timeout=None, check=False, capture_output=False, **given):
    """`subprocess.run` of a command that begins with this Python."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if capture_output else {}
    with process(command, **pipes, **given) as running:
        try:
            out, err = running.communicate(timeout=timeout)
        except BaseException:
            running.kill()
            raise
    if check and running.returncode:
        raise subprocess.CalledProcessError(running.returncode, running.args, out, err)
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


class _Forked(subprocess.Popen):
    """A process that another one has forked, and waits for."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        pipes, session = rest[3:9], bool(rest[-2])
        descriptors = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        asked = {"arguments": args[1:], "cwd": os.fspath(cwd or os.getcwd()), "env": env, "session": session}
        try:
            self._forker = _forker()
            self.pid = self._forker.ask(asked, descriptors)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags):
        """Number and status of the process, or 0 and 0 where it lives and need not be waited for."""
        while True:
            status = self._forker.ask({"wait": self.pid})
            if status is not None:
                return self.pid, status
            if wait_flags & os.WNOHANG:
                return 0, 0
            time.sleep(0.01)

    def _internal_poll(self, *given, **named):
        if self.returncode is None and not (given or named) and self._waitpid_lock.acquire(False):  # given: __del__
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


class _Forker:
    """The process that forks, and the connection to it."""

    def __init__(self):
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._environment = dict(os.environ)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                cwd=ROOT,
                env={**self._environment, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def would_be(self, env):
        """Whether imports with ``env`` would have read what they read here; folders of PYTHONPATH can be added."""
        names = {name for name in {*env, *self._environment} if name.startswith(_AT_IMPORT)}
        different = {name for name in names if env.get(name) != self._environment.get(name)}
        return different <= {"PYTHONPATH", "JAX_PLATFORMS"}

    def ask(self, what, descriptors=()):
        try:
            with self._lock:
                socket.send_fds(self._ours, [json.dumps(what).encode()], descriptors)
                return json.loads(self._ours.recv(_MOST))
        except BaseException:  # a test's time was over, or it has ended: the next test asks another
            _forker.cache_clear()
            raise

    def close(self):
        self._ours.close()
        self._process.wait(60)


@functools.cache
def _forker():
    forker = _Forker()
    atexit.register(forker.close)
    return forker


def started():
    """Number of the process that forks, or 0 where none was asked for."""
    return _forker()._process.pid if _forker.cache_info().currsize else 0


# In the process that forks


def main(descriptor):
    """Forks a process for each request, and says how those that are asked for have ended."""
    _load()
    with socket.socket(fileno=descriptor) as tests:
        while True:
            message, descriptors, _, _ = socket.recv_fds(tests, _MOST, 3)
            if not message:
                return None
            asked = json.loads(message)
            if "wait" in asked:
                try:
                    pid, status = os.waitpid(asked["wait"], os.WNOHANG)
                except ChildProcessError:  # as `subprocess` has it
                    pid, status = asked["wait"], 0
                answer = status if pid else None
            else:
                answer = os.fork()
                if not answer:
                    tests.close()
                    return functools.partial(_become, asked, descriptors)
                for each in descriptors:
                    os.close(each)
            tests.sendall(json.dumps(answer).encode())


def _load():
    for name in _LOADED:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork of a process with threads"
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    gc.collect()
    gc.freeze()


def _become(asked, descriptors):
    """What a new interpreter does with its arguments, ``-m NAME`` or ``-c CODE``."""
    if asked["session"]:
        os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    _take(asked["env"])
    kind, what, *arguments = asked["arguments"]
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    assert kind == "-c", kind
    made = types.ModuleType("__main__")
    sys.modules["__main__"] = made
    exec(what, made.__dict__)


def _take(env):
    logging.root.handlers.clear()  # those of what was imported, which not every program imports
    logging.root.setLevel(logging.WARNING)
    platforms = os.environ.get("JAX_PLATFORMS")
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    if env.get("JAX_PLATFORMS") != platforms:
        import jax

        jax.config.update("jax_platforms", env.get("JAX_PLATFORMS") or None)
    sys.path[1:1] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    become = main(int(sys.argv[1]))
    if become:
        become()
