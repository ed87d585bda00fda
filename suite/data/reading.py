"""Bytes and text of files: what exists, what is UTF-8, which file holds which split."""

import gzip
import os
from pathlib import Path

from suite.contracts.kinds import KINDS
from suite.data.sources.memory import ALIASES, SPLITS
from suite.errors import InputError, closest

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
"""Extensions of tables."""
IMAGES = KINDS["image"].extensions
"""Extensions of images."""
AUDIO = KINDS["audio"].extensions
"""Extensions of recordings."""


def existing(path: str) -> Path:
    """The path, with ``~`` expanded.

    Raises:
        InputError: nothing is there; names the nearest match in that folder.
    """
    if not path:
        raise InputError("field task.data.path", "names no file or folder.", fix="--data PATH")
    if file := there(path):
        return file
    above = [there(str(parent)) for parent in Path(path).parents]
    parent = next(folder for folder in above if folder and folder.is_dir())  # at the end are / and .
    names = sorted(item.name for item in parent.iterdir())
    near = closest(Path(path).name, names) if parent == above[0] else ""
    listing = f"in {parent}: {', '.join(names[:10]) or 'nothing'}{' ...' if len(names) > 10 else ''}"
    raise InputError(path, "no such file or folder", found=listing, fix=f"{parent / near}" if near else "")


def there(path: str) -> Path | None:
    """The path, with ``~`` expanded; None where nothing is there, as of a text that cannot be the name of a file: too
    long for one, or with a ``~`` before no user's name."""
    try:
        file = Path(path).expanduser()
        return file if path and file.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def changed(file: str) -> int:
    """When a fitted file was last written, in nanoseconds: with its name, the key of what is kept of it in memory.

    Raises:
        InputError: it is not there, or none was fitted yet.
    """
    try:
        return os.stat(file).st_mtime_ns
    except FileNotFoundError as error:
        where = file or "preprocessing"
        raise InputError(
            where, "this has not been learnt from data yet", fix="train first, or name its file"
        ) from error


def read_bytes(file: Path) -> bytes:
    """Content of a file, unpacked where its name ends in .gz.

    Raises:
        InputError: a damaged .gz file.
    """
    data = file.read_bytes()
    if file.suffix.lower() != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise InputError(str(file), "this .gz file is damaged", found=str(error)) from error


def check_utf8(data: bytes, where: str) -> str:
    """``data`` as text.

    Raises:
        InputError: it is not UTF-8; names the byte offset and a command that converts the file.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data[:3] == b"\xef\xbb\xbf" else 0)
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise InputError(
            where,
            "this file is not UTF-8 text",
            found=f"byte 0x{data[start]:02x} at offset {start}",
            fix=f"iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 {where} > {where}.utf8",
        ) from error


def read_text(file: Path, data: bytes | None = None) -> str:
    """A text file, or ``data`` in its place, as text. Raises InputError where it is not UTF-8."""
    return check_utf8(read_bytes(file) if data is None else data, str(file))


def lines(text: str) -> list[str]:
    """Lines that end in a line feed and in nothing else: Unicode knows more ends, which occur within sentences."""
    parts = text.split("\n")
    return [line.removesuffix("\r") for line in (parts if parts[-1] else parts[:-1])]


def split_files(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    """Split -> the file in ``folder`` that is named after it (``dev.tsv`` holds validation)."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        stem, dot, rest = file.name.lower().partition(".")
        name = ALIASES.get(stem, stem)
        if file.is_file() and name in SPLITS and dot + rest in extensions:
            files.setdefault(name, file)
    return files
