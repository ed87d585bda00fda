"""Who works on what, in a folder that several processes share: locks that the kernel opens when their process dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from suite.errors import InputError

CLAIM = "claim"
"""File of a trial's folder: locked while a process works there, it holds the seconds spent so far."""
NOTE_SECONDS = 5.0
"""How often they are written: what a kill may lose."""


def _locked(path: Path, wait: bool) -> int | None:
    """The open file, locked; None where another process has it. A child that is started does not inherit the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(file)
        return None
    except OSError as error:
        os.close(file)
        raise InputError(
            f'--run-dir "{path.parent}"',
            "lies on a file system without locks.",
            found=str(error),
            fix="--run-dir DIR on another one",
        ) from None
    except BaseException:  # a signal while it waits
        os.close(file)
        raise
    return file


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """While this lasts, no other process holds ``path``."""
    file = _locked(path, wait=True)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


class Claim:
    """This process's hold on the folder of a trial, let go when the context is left or the process dies.

    It keeps count of the seconds that were spent on the trial, by whichever processes.
    """

    def __init__(self, folder: Path, file: int):
        self.folder, self._file = folder, file
        self._before, self._start = seconds(folder), time.monotonic()
        self._noted = self._start

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """None where another process has it."""
        file = _locked(folder / CLAIM, wait=False)
        return None if file is None else cls(folder, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.release()

    def release(self) -> None:
        """Let go."""
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


def seconds(folder: Path) -> float:
    """Seconds that were spent on the trial in ``folder``, by whichever processes."""
    with contextlib.suppress(OSError, ValueError):
        return float((folder / CLAIM).read_text(encoding="ascii"))
    return 0.0
