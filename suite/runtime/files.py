"""Files of runs and bundles: what a folder is, files that are written whole or not at all, disks without room."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from suite.errors import StorageError

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Of a disk that is full, over its quota, at the size limit of a file, failing, or mounted for reading alone."""


def is_run(source: str | Path) -> bool:
    """Whether ``source`` is a run folder, rather than a bundle, published weights or nothing at all."""
    return (Path(source) / "experiment.json").is_file() and not is_bundle(source)


def is_bundle(source: str | Path) -> bool:
    """Whether ``source`` is a bundle, as suite export writes it."""
    return (Path(source) / "bundle.json").is_file()


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader, or a loss of power, sees the old one or the new one.

    Raises:
        StorageError: the disk has no room, or fails; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    with storing(f"{path} was not written; what it held before is unchanged"):
        try:
            with open(partial, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def is_disk_fault(error: BaseException) -> bool:
    """Whether an error is of a disk without room or a failing one, and not of a name or a permission."""
    return isinstance(error, OSError) and error.errno in DISK_FAULTS


@contextlib.contextmanager
def storing(lost: str, fix: str = "") -> Iterator[None]:
    """Errors of the disk, from within, are told in words.

    Args:
        lost: what is lost and what remains.
        fix: what to do once there is room; empty: the same command again.

    Raises:
        StorageError: instead of an OSError of the disk.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if not is_disk_fault(error):
            raise
        raise storage_error(error, lost, fix) from error


def storage_error(error: OSError, lost: str, fix: str = "") -> StorageError:
    """The error of a disk in words: see ``storing``."""
    named = f": {error.filename}" if error.filename else ""
    again = fix or "then the same command again"
    told = StorageError(f"{lost}.\n  found: {error.strerror or error}{named}\n  try:   free some space; {again}")
    told.errno = error.errno
    return told
