"""Locks of folders that several processes share: kernel locks, which are released when their process dies."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from suite.errors import InputError
from suite.runtime import files

CLAIM = "claim"
"""File of a folder: locked while a process works there. It holds the seconds spent so far, and who holds the lock."""
NOTE_SECONDS = 5.0
"""How often the seconds are written: what a kill may lose."""
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
"""What flock(2) answers on a network file system that is mounted without locks."""


class WithoutLocks(Exception):
    """The file system has no locks."""


def _locked(path: Path, wait: bool) -> int | None:
    """The open file, locked; None where another process has it. A child that is started does not inherit the lock.

    A file that was removed while this waited is nobody's any more: then the new one of its name is locked.

    Raises:
        WithoutLocks: the file system has none.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.written_at(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(file, path):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as error:
            os.close(file)
            if error.errno not in _WITHOUT_LOCKS:
                raise
            raise WithoutLocks(error.strerror) from None
        except BaseException:  # a signal while it waits
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _needed(path: Path, wait: bool) -> int | None:
    """As ``_locked``, where nothing can be done without a lock."""
    try:
        return _locked(path, wait)
    except WithoutLocks as error:
        raise InputError(
            f'--run-dir "{path.parent}"',
            "lies on a file system without locks.",
            found=str(error),
            fix="--run-dir DIR on another one",
        ) from None


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """While this lasts, no other process holds ``path``."""
    file = _needed(path, wait=True)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


class Claim:
    """This process's hold on a folder, released when the context is left or the process dies.

    It keeps count of the seconds that were spent on the folder, by whichever processes, and names its holder.
    """

    def __init__(self, folder: Path, file: int):
        self.folder, self._file = folder, file
        self._before, self._start = seconds(folder), time.monotonic()
        self._noted = self._start
        self._key = (threading.get_ident(), folder.resolve())
        _HELD[self._key] = self
        content = f"{self._before:14.3f}\n{json.dumps(_holder())}\n".encode()
        with contextlib.suppress(OSError):  # a full disk keeps no process from its work
            os.pwrite(file, content, 0)
            os.ftruncate(file, len(content))

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """None where another process has it."""
        file = _needed(folder / CLAIM, wait=False)
        return None if file is None else cls(folder, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.release()

    def release(self) -> None:
        """Let go. A second call does nothing."""
        if _HELD.pop(self._key, None) is not None:
            self.note(0.0)
            os.close(self._file)

    def note(self, every: float = NOTE_SECONDS) -> float:
        """The seconds spent so far; written where they were not within the last ``every`` seconds."""
        now = time.monotonic()
        spent = self._before + now - self._start
        if now - self._noted >= every:
            self._noted = now
            with contextlib.suppress(OSError):  # a full disk stops no training
                os.pwrite(self._file, f"{spent:14.3f}\n".encode(), 0)
        return spent


_HELD: dict[tuple[int, Path], Claim] = {}
"""Claims of this process, by the thread that took them and their folder."""


def take(folder: Path, again: str = "") -> Claim | None:
    """A claim on a folder that is about to be written; None where this thread has one already, as compression has on
    the folder that it trains in, and where the file system has no locks, which is told in a line.

    Args:
        folder: made if missing.
        again: the command to type once the other process has ended; empty: the same one.

    Raises:
        InputError: another process writes there; it is named.
    """
    if (threading.get_ident(), folder.resolve()) in _HELD:
        return None
    try:
        file = _locked(folder / CLAIM, wait=False)
    except WithoutLocks as error:
        line = f"{folder}: its file system has no locks ({error}), so nothing keeps a second process from writing there"
        print(line, file=sys.stderr, flush=True)
        return None
    if file is None:
        raise busy(folder, again)
    return Claim(folder, file)


@contextlib.contextmanager
def writing(folder: Path, again: str = "") -> Iterator[None]:
    """While this lasts no other process may write a folder: see ``take``."""
    with take(folder, again) or contextlib.nullcontext():
        yield


def busy(folder: Path, again: str = "") -> InputError:
    """That another process writes a folder: which one, since when, and how to go on."""
    wait = f"flock {shlex.quote(str(folder / CLAIM))} true"  # flock(1) returns once the lock is free
    return InputError(
        f'run folder "{folder}"',
        "is being written by another process.",
        found=_told(folder),
        fix=f"{wait} && {again}" if again else f"{wait}, which waits for its end; then the same command",
    )


def _holder() -> dict[str, Any]:
    """Who this process is, as the one that it keeps out is told."""
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _told(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        holder = json.loads((folder / CLAIM).read_text(encoding="utf-8").splitlines()[1])
        return f"process {int(holder['pid'])} on {holder['host']}, since {holder['since']}"
    return "a process that has not written its name yet"


def seconds(folder: Path) -> float:
    """Seconds that were spent on a folder under a claim, by whichever processes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return float((folder / CLAIM).read_text(encoding="utf-8").splitlines()[0])
    return 0.0
