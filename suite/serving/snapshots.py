"""Folders of the server's own, none of which outlives it: copies of bundles, so that nothing changes under a version
that answers, and the compiled programs that the process which tries versions hands over."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from suite.bundles.manifest import NAME, REFERENCE, WEIGHTS
from suite.runtime.compilation import cache_folder

PREFIX = "suite-serve-"
COMPILED = "suite-compiled-"
Identity = tuple[tuple[str, int, int, int], ...]
"""Of a folder: path, inode, bytes and time of each file."""


class Own:
    """A private folder in the system's temporary one, until ``remove``.

    Args:
        prefix: of its name.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, prefix: str):
        self.root, self._lock = _locked(prefix)

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Compiled(Own):
    """A compilation cache of one server. What was compiled by former ones is linked into it, and what is new is kept
    for later ones, where there is a folder for that (`suite.runtime.compilation.cache_folder`): a process that is ended
    while it writes damages nothing there.

    Raises:
        OSError: there is no room.
    """

    def __init__(self) -> None:
        super().__init__(COMPILED)
        kept = cache_folder()
        with contextlib.suppress(OSError), os.scandir(kept or self.root) as entries:
            for entry in entries:
                os.symlink(os.path.abspath(entry.path), self.root / entry.name)

    def keep(self) -> None:
        """Keep what is new."""
        kept = cache_folder()
        with contextlib.suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries if kept else ():
                target = Path(kept or "") / entry.name
                if entry.is_symlink() or not entry.is_file() or target.exists():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f"partial-{os.getpid()}-{entry.name}")
                try:
                    shutil.copyfile(entry.path, partial)
                    os.replace(partial, target)
                finally:
                    partial.unlink(missing_ok=True)


class Copy(Own):
    """A copy of a folder in the system's temporary one, until ``remove``.

    Weights are linked where they can be: they are read once, while the bundle is opened.

    Args:
        source: what is copied; links are copied as links.

    Raises:
        OSError: it cannot be read, or there is no room.
    """

    def __init__(self, source: Path):
        super().__init__(PREFIX)
        try:
            self.folder = self.root / "bundle"
            _copy(source, self.folder)
        except BaseException:
            self.remove()
            raise

    def opened(self) -> None:
        """The bundle has been opened: its arrays are in memory, and no longer wanted here."""
        for name in (WEIGHTS, REFERENCE):
            (self.folder / name).unlink(missing_ok=True)


def sweep() -> None:
    """Remove what servers that were killed have left: folders that nobody holds the lock of."""
    temporary = Path(tempfile.gettempdir())
    for root in (*temporary.glob(f"{PREFIX}*"), *temporary.glob(f"{COMPILED}*")):
        with contextlib.suppress(OSError):
            lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
            finally:
                os.close(lock)


def _locked(prefix: str) -> tuple[Path, int | None]:
    """A new folder and the lock on it. On the folder itself: what cleans temporary files by their age, such as
    systemd-tmpfiles, leaves a folder with a lock alone, with all that lies in it."""
    while True:
        root = Path(tempfile.mkdtemp(prefix=prefix))
        with contextlib.suppress(FileNotFoundError):  # another server that starts has swept it away before its lock
            lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if root.exists():
                return root, lock
            os.close(lock)


def _copy(source: Path, target: Path) -> None:
    """Folders are made as one's own, whatever their modes were: from one without the right to write nothing can be
    removed."""
    target.mkdir(0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target / entry.name)
            elif entry.is_dir():
                _copy(Path(entry.path), target / entry.name)
            else:
                _link_or_copy(entry.path, str(target / entry.name))


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def identity(folder: Path) -> Identity:
    """What tells one state of a folder from another; empty where there is no bundle."""
    try:
        root = folder.resolve(strict=True)
        if not (root / NAME).is_file():
            return ()
        files = sorted(path for path in root.rglob("*") if path.is_file())
        stats = [(str(path.relative_to(root)), path.stat()) for path in files]
    except OSError:  # it is being replaced
        return ()
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
