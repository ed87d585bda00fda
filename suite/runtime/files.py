"""Files of runs and bundles: what a folder is, files that are written whole or not at all, disks without room."""

import contextlib
import errno
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from suite.errors import InputError, StorageError, unused

if TYPE_CHECKING:
    import numpy as np

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Of a disk that is full, over its quota, at the size limit of a file, failing, or mounted for reading alone."""


_NO_TEMPORARY = "No usable temporary directory"
"""What Python says where none of the folders for temporary files takes a byte, whatever the disk answered."""
_CUT_SHORT = re.compile(r"(\d+) requested and (\d+) written|Not enough free space to write \d+ bytes.*")
"""What NumPy says where a disk does not take the whole of an array, whatever it answered."""


def is_run(source: str | Path) -> bool:
    """Whether ``source`` is a run folder, rather than a bundle, published weights or nothing at all."""
    return (Path(source) / "experiment.json").is_file() and not is_bundle(source)


def is_bundle(source: str | Path) -> bool:
    """Whether ``source`` is a bundle, as suite export writes it."""
    return (Path(source) / "bundle.json").is_file()


@contextlib.contextmanager
def written_at(path: Path) -> Iterator[None]:
    """Within, a file is opened or put at ``path``.

    Raises:
        InputError: a folder stands there.
    """
    try:
        yield
    except IsADirectoryError:
        fix = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.folder')}; then the same command again"
        raise InputError(f'"{path}"', "is a folder, where a file is to be written.", fix=fix) from None


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` at the end, and is gone after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    with written_at(path), storing(f"{path} was not written; what it held before is unchanged"):
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def put_file(partial: Path, target: Path) -> None:
    """Moves a complete file to ``target``: a loss of power leaves what was there before, or the whole new one."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader, or a loss of power, sees the old one or the new one.

    Raises:
        StorageError: the disk has no room, or fails; the old file stays.
        InputError: a folder stands there.
    """
    with replaced(path) as file:
        file.write(text.encode())


def write_array(path: Path, array: "np.ndarray") -> None:
    """Write an .npy file as `write_text` does a text."""
    import numpy as np

    with replaced(path) as file:
        np.save(file, array)


def check_new(target: Path) -> None:
    """Raises InputError: the folder that is to be written is there already."""
    if target.exists() or target.is_symlink():
        raise InputError(f'--to "{target}"', "is there already.", fix=f"--to {unused(target)}")


@contextlib.contextmanager
def new_folder(target: Path, replacing: bool = False) -> Iterator[Path]:
    """A folder beside ``target`` that takes its place at the end, and is gone after an error. Of a link it is the place
    that the link leads to.

    Raises:
        InputError: ``target`` is there already, and is not to be replaced.
    """
    if not replacing:
        check_new(target)
    target = target.resolve() if replacing else target
    partial = target.with_name(f"partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)  # what a process that was killed left
    partial.mkdir(parents=True)
    try:
        yield partial
        put(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put(folder: Path, target: Path) -> None:
    """Moves a whole folder to ``target``, on the same disk, in the place of what is there."""
    old = target.with_name(f"replaced-{target.name}")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)  # target is whole: what was put aside for it is no longer wanted
        os.rename(target, old)
    os.rename(folder, target)
    shutil.rmtree(old, ignore_errors=True)


def is_disk_fault(error: BaseException) -> bool:
    """Whether an error is of a disk without room or a failing one, and not of a name or a permission."""
    if not isinstance(error, OSError):
        return False
    return error.errno in DISK_FAULTS or _NO_TEMPORARY in str(error) or _CUT_SHORT.fullmatch(str(error)) is not None


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
    reason = error.strerror or str(error)
    if (cut := _CUT_SHORT.fullmatch(reason)) and cut[1]:
        reason = f"the disk took {cut[2]} of the {cut[1]} numbers of an array"
    told = StorageError(f"{lost}.\n  found: {reason}{named}\n  try:   free some space; {again}")
    told.errno = error.errno or errno.EIO
    return told
