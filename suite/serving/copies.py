"""The server's own copies of bundles: nothing changes under a version that answers, and none outlives its server."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "suite-serve-"
LOCK = "lock"


class Copy:
    """A copy of a folder in the system's temporary one, until ``remove``.

    Weights are linked where they can be: they are read once, while the bundle is opened.

    Args:
        source: what is copied; links are copied as links.

    Raises:
        OSError: it cannot be read, or there is no room.
    """

    def __init__(self, source: Path):
        self._root = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock: IO[bytes] = open(self._root / LOCK, "wb")  # noqa: SIM115 - held as long as the copy is
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.folder = self._root / "bundle"
            shutil.copytree(source, self.folder, symlinks=True, copy_function=_link_or_copy)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """What was opened from it must have been read."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove what servers that were killed have left: copies that nobody holds the lock of."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(root / LOCK, "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
