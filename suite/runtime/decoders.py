"""Decoder processes: what a hostile file may make endless, huge or fatal is decoded in processes of their own.

A decoder process loads no JAX, has `MEMORY` bytes of address space and a clock of processor time for each call. One
that dies or is ended is replaced; the call that ended it raises `Ended`. Processes are started when they are first
needed.

What a decoder process answers is read as numbers, texts and arrays and never unpickled.
"""

import atexit
import contextlib
import dataclasses
import functools
import math
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from suite.errors import InputError, RunError
from suite.runtime import child
from suite.runtime.decoder_messages import Failed, Raised, ask

P = ParamSpec("P")
T = TypeVar("T")

MEMORY = 2 << 30
"""Bytes of address space of a decoder process: an image of the most pixels that are read needs about half of it."""
SECONDS = 20.0
"""Seconds of processor time that a call may take, where nothing else is said."""
LONGEST = 300.0
"""Seconds by the clock that a call may take, where nothing else is said: a process that sleeps uses no processor."""
SIZE = max(2, min(16, os.cpu_count() or 1))
"""Most decoder processes of a process."""


class Ended(InputError):
    """A file that its decoder was ended for: it took too long, needed too much memory, or crashed it."""


class Busy(Exception):
    """No decoder process was free in time."""


class Elsewhere(Exception):
    """A call that has to wait for a decoder process, from where nothing may wait: see `never`."""


@dataclass(frozen=True)
class Limits:
    """What bounds the calls of a request.

    Attributes:
        until: on the monotonic clock, when their time is over.
        seconds: of processor time of one call.
    """

    until: float = math.inf
    seconds: float = SECONDS


_DEFAULT = Limits()
_limits: ContextVar[Limits | None] = ContextVar("limits", default=_DEFAULT)
_inside = False
"""Whether this is a decoder process."""


@contextlib.contextmanager
def within(until: float, seconds: float) -> Iterator[None]:
    """Calls inside are bounded; see `Limits`."""
    token = _limits.set(Limits(until, seconds))
    try:
        yield
    finally:
        _limits.reset(token)


@contextlib.contextmanager
def for_seconds(seconds: float) -> Iterator[None]:
    """Calls inside may take so much processor time each; what else bounds them stays."""
    limits = _limits.get()
    token = _limits.set(None if limits is None else dataclasses.replace(limits, seconds=seconds))
    try:
        yield
    finally:
        _limits.reset(token)


@contextlib.contextmanager
def never() -> Iterator[None]:
    """Calls inside raise `Elsewhere`, so that a thread that others depend on waits for no decoder process."""
    token = _limits.set(None)
    try:
        yield
    finally:
        _limits.reset(token)


def bounded(
    plain: Callable[[Any], bool], name: Callable[[Any], str]
) -> Callable[[Callable[Concatenate[Any, P], T]], Callable[Concatenate[Any, P], T]]:
    """A function of a module whose calls go to a decoder process.

    Args:
        plain: whether the first argument needs none, as its header proves.
        name: what errors call it.
    """

    def wrap(function: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
        @functools.wraps(function)
        def called(value: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            if _inside or plain(value):
                return function(value, *args, **kwargs)
            result: T = call(name(value), called, value, *args, **kwargs)
            return result

        return called

    return wrap


def call(where: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function of a module returns in a decoder process; what it raises, where that is one of the suite's
    errors.

    Args:
        where: what errors call the file.
        function: returns None, a boolean, a number, a text, an array, or lists, tuples and dicts of these.
        args, kwargs: of the function.

    Raises:
        Ended: the process had to be ended, or died.
        Busy: none was free in time.
        Elsewhere: see `never`.
    """
    if _inside:
        return function(*args, **kwargs)
    limits = _limits.get()
    if limits is None:
        raise Elsewhere
    request = pickle.dumps((function, args, kwargs, limits.seconds, _folder()), protocol=5)
    return _pool.call(where, request, limits)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "/"


class _Decoder:
    """One decoder process, and the connection to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):  # so that a usual file or answer passes at once
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        # One thread: the address space that others reserve counts.
        single = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
        with theirs:
            # C libraries write lines of their own about damaged files, which nobody reads.
            silent = {**single, "TOKENIZERS_PARALLELISM": "false"}
            self._process = child.start(_MAIN, theirs.fileno(), subprocess.DEVNULL, **silent)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes, until: float) -> Any:
        """What comes back: see `suite.runtime.decoder_messages.ask`."""
        return ask(self._socket, request, until)

    def end(self) -> int:
        """Ends the process; its exit code, or the signal that it died of as a negative number."""
        self._socket.close()
        # A process that has closed its connection is about to end; the reason is its own.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.2)
        self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()


_MAIN = "import sys; from suite.runtime.decoder_process import main; main(int(sys.argv[1]))"


class _Pool:
    """The decoder processes of this process."""

    def __init__(self) -> None:
        self._free: list[_Decoder] = []
        self._places = threading.BoundedSemaphore(SIZE)

    def call(self, where: str, request: bytes, limits: Limits) -> Any:
        """See `call`."""
        wait = limits.until - time.monotonic()
        if not self._places.acquire(timeout=None if wait == math.inf else max(wait, 0.0)):
            raise Busy
        try:
            return self._answer(where, request, limits)
        except _Killed:  # by another, perhaps before it knew of this file: the second time it was the file
            return self._answer(where, request, limits, last=True)
        finally:
            self._places.release()

    def _answer(self, where: str, request: bytes, limits: Limits, last: bool = False) -> Any:
        decoder = self._decoder()
        try:
            answer = decoder.ask(request, min(limits.until, time.monotonic() + LONGEST))
        except Raised as raised:
            self._free.append(decoder)
            raise raised.error from None
        except (EOFError, TimeoutError) as error:
            raise _ended(where, decoder, isinstance(error, TimeoutError), limits, last) from None
        except Failed as error:
            decoder.kill()
            problem = "cannot be read" if error.text else _MORE_MEMORY
            raise Ended(where, problem, found=error.text, fix=_FIX) from None
        except Exception as error:  # what a decoder that was taken over may send
            decoder.kill()
            problem = "the process that reads it answers nonsense"
            raise Ended(where, problem, found=type(error).__name__, fix=_FIX) from None
        except BaseException:
            decoder.kill()
            raise
        self._free.append(decoder)
        return answer

    def _decoder(self) -> _Decoder:
        while (decoder := self._pop()) is not None:
            if decoder.alive:  # it may have been killed meanwhile, which is no fault of this file
                return decoder
            decoder.kill()
        return _Decoder()

    def _pop(self) -> _Decoder | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def close(self) -> None:
        while (decoder := self._pop()) is not None:
            decoder.kill()


_FIX = "replace or remove it"
_MORE_MEMORY = f"needs more than {MEMORY >> 30} GiB of memory to be read"


def _ended(where: str, decoder: _Decoder, late: bool, limits: Limits, last: bool) -> Exception:
    """What became of a decoder process that gives no answer."""
    if late:
        decoder.kill()
        return Ended(where, "takes too long to be read", fix=_FIX)
    code = decoder.end()
    if code == -signal.SIGXCPU:
        return Ended(where, f"takes more than {limits.seconds:g} s of processor time to be read", fix=_FIX)
    if code == -signal.SIGKILL and not last:
        return _Killed()
    if code == STARTING:
        return RunError(
            "a decoder process cannot be started: python -c 'import suite.runtime.decoder_process' says why"
        )
    if code < 0:
        with contextlib.suppress(ValueError):
            return Ended(where, f"ends the process that reads it by {signal.Signals(-code).name}", fix=_FIX)
    return Ended(where, f"ends the process that reads it with exit code {code}", fix=_FIX)


STARTING = 1
"""Exit code of a process that Python could not start."""
ENDED = 3
"""Exit code of a decoder process that could not answer."""


class _Killed(Exception):
    """The decoder was killed: by the system where memory ran out, or by somebody."""


_pool = _Pool()
_before_fork: list[_Pool] = []
"""Pools of processes that this one was forked from: their decoders are those of the parent."""


def _forked() -> None:
    global _pool
    _before_fork.append(_pool)
    _pool = _Pool()


def is_decoder() -> bool:
    """Whether this is a decoder process."""
    return _inside


def become_decoder() -> None:
    """From now on this process decodes itself."""
    global _inside
    _inside = True


os.register_at_fork(after_in_child=_forked)
atexit.register(lambda: _pool.close())
