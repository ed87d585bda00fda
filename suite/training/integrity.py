"""Checksums of a checkpoint's files: written once it is complete, compared before it is used."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import write_text

MANIFEST = "checksums.json"
CHUNK = 2**20
"""Bytes read at a time: a file is never held whole."""


def seal(folder: Path) -> None:
    """Write size and CRC-32 of every file of a complete checkpoint into it. Releases the interpreter while it sums."""
    sums = {path.relative_to(folder).as_posix(): _sum(path) for path in _files(folder)}
    write_text(folder / MANIFEST, json.dumps({"files": sums}, indent=0) + "\n")


def is_sealed(folder: Path) -> bool:
    """Whether checksums were written: a process that is killed right after a save leaves none."""
    return (folder / MANIFEST).exists()


def fault(folder: Path) -> str:
    """What is wrong with a checkpoint, ``"<file>: <what>"``; empty where nothing is.

    Without checksums only the small files that Orbax parses are looked at: they would stop it from listing any
    checkpoint at all.
    """
    if not is_sealed(folder):
        return _unreadable([folder / "_CHECKPOINT_METADATA", folder / "metrics" / "metrics"], folder)
    try:
        sums = json_files.load(folder / MANIFEST, _sums)
    except (OSError, InputError):  # a flipped byte may leave it JSON of another form
        return f"{MANIFEST}: it cannot be read"
    return next((f"{name}: {what}" for name, known in sums.items() if (what := _differs(folder / name, known))), "")


def _sums(content: Any) -> dict[str, tuple[int, int]]:
    return {name: (int(size), int(crc)) for name, (size, crc) in content["files"].items()}


def _differs(path: Path, known: tuple[int, int]) -> str:
    if not path.is_file():
        return "it is missing"
    if (size := path.stat().st_size) != known[0]:
        return f"it has {size:,} bytes, not {known[0]:,}"
    return "" if _sum(path) == known else "its checksum differs"


def _unreadable(paths: list[Path], folder: Path) -> str:
    for path in paths:
        try:
            json_files.read(path)
        except FileNotFoundError:
            continue
        except InputError:
            return f"{path.relative_to(folder).as_posix()}: it cannot be read"
    return ""


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)


def _sum(path: Path) -> tuple[int, int]:
    size, value = 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            size, value = size + len(chunk), zlib.crc32(chunk, value)
    return size, value
