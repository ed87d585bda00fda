"""Fingerprint of a run's data: taken when it begins, compared before it goes on.

The position in the order of examples, the split and the fitted preprocessors mean nothing for other records. Of each
split the fingerprint holds the number of records, their columns and class names, and a hash of records: of all where
they are few or short, else of evenly spaced ones, and then the sizes of the files too. Preprocessors are hashed whole.
"""

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.task import Task
from suite.errors import InputError
from suite.runtime import files, json_files

FILE = "data.json"
BYTES = 4 << 20
"""Content of a split that is hashed, about."""
FEWEST = 64
"""Records hashed, however large they are."""
PROBED = 16
"""Records whose sizes say how many are hashed."""
HEAD = 1 << 16
"""Bytes of a file that are hashed where a record holds its name."""
CHUNK = 256
"""Records read at a time."""
MOST_FILES = 200_000
"""Files whose sizes are added up: of more, none are."""
MOST_NAMES = 50
"""Class names that are stored."""


def fingerprint(task: Task, splits: Mapping[str, Source]) -> dict[str, Any]:
    """The fingerprint of a task's data, as JSON.

    Args:
        task: whose ``data`` names the files.
        splits: name -> its records.
    """
    sizes = _of_files(task.data)
    roots = [str(root) for path in map(Path, sizes) for root in _roots(path.expanduser())]
    return {"splits": {name: _of_split(source, roots) for name, source in splits.items()}, "files": sizes}


def check(
    folder: Path, now: dict[str, Any], *, begun: bool, accept: bool, say: Callable[[str], None], again: str = ""
) -> None:
    """Compare the data with what the work in a folder was begun with; where it begins, note it.

    Args:
        folder: of a run or a search.
        now: from `fingerprint`.
        begun: whether there is work in the folder that goes on.
        accept: go on with changed data, which are the work's own from now on.
        say: takes lines for people.

    Raises:
        InputError: the data are not those that the work was begun with.
    """
    path = folder / FILE
    if not path.exists():
        if begun:
            say("whether the data changed is not checked: this was begun by a version that noted no fingerprint")
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, now)
        return
    before = json_files.read_object(path)
    changed = [*_differences(before, now), *_changed_assets(folder, before.get("assets", {}))]
    if not changed:
        return
    if not accept:
        raise InputError(
            f'folder "{folder}"',
            "was begun with other data, whose order and splits it would apply to these; they can be put back.",
            found="; ".join(changed),
            fix="--accept-changed-data",
        )
    say(f"going on with changed data: {'; '.join(changed)}")
    for lengths in (folder / "assets").glob("lengths-*.npy"):  # of the former records
        lengths.unlink()
    _write(path, {**now, "former": before})


def note_assets(folder: Path) -> None:
    """Add hashes of the run's fitted preprocessors to its fingerprint."""
    path = folder / FILE
    noted = json_files.read_object(path)
    assets = {file.name: _checksum(file) for file in _assets(folder)}
    if noted.get("assets") != assets:
        _write(path, {**noted, "assets": assets})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    files.write_text(path, json.dumps(value, indent=1) + "\n")


def _roots(path: Path) -> list[Path]:
    """Folders that a record's files may lie in, longest first."""
    folders = [path, *([path.parent] if path.is_file() else [])]
    return [root for folder in folders for root in (folder, folder.resolve()) if str(root) != "."]


def _of_split(source: Source, roots: Sequence[str]) -> dict[str, Any]:
    n = len(source)
    probe = _spaced(n, PROBED)
    size = max(_hashed(source, probe, roots).size // max(len(probe), 1), 1)
    chosen = _spaced(n, max(BYTES // size, FEWEST))
    names = {column: list(names) for column, names in source.classes.items()}
    return {
        "records": n,
        "columns": sorted(source.schema),
        "classes": {column: known if len(known) <= MOST_NAMES else len(known) for column, known in names.items()},
        "hashed": len(chosen),
        "content": _hashed(source, chosen, roots, names).hex(),
    }


def _spaced(n: int, wanted: int) -> np.ndarray:
    return np.arange(n) if wanted >= n else np.unique(np.linspace(0, n - 1, wanted).astype(np.int64))


class _Digest:
    """A hash of values by content, and how many bytes it has seen.

    Args:
        roots: paths that texts may begin with, as names of files do: data may be moved.
    """

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._hash, self._roots = hashlib.blake2b(digest_size=16), tuple(roots)
        self.size = 0

    def add(self, *parts: bytes) -> None:
        for part in parts:
            self.size += len(part)
            self._hash.update(len(part).to_bytes(8, "little"))
            self._hash.update(part)

    def value(self, value: Any) -> None:
        """A value of a record: equal ones are hashed alike, in whichever container a source holds them."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS":
            self.add(b"array", value.dtype.str.encode(), repr(value.shape).encode(), value.tobytes())
        elif isinstance(value, str):
            inside = next((value.removeprefix(root) for root in self._roots if value.startswith(root)), value)
            self.add(b"text", inside.encode("utf-8", "surrogatepass"))
        elif isinstance(value, bytes | bytearray | memoryview):
            self.add(b"bytes", bytes(value))
        elif isinstance(value, Mapping):
            self.value([[key, value[key]] for key in sorted(value, key=repr)])
        elif isinstance(value, list | tuple | np.ndarray):
            self.add(b"list", len(value).to_bytes(8, "little"))
            for item in value:
                self.value(item)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self.value([getattr(value, field.name) for field in dataclasses.fields(value)])
        elif type(value).__repr__ is not object.__repr__:
            self.add(b"other", repr(value).encode("utf-8", "surrogatepass"))
        else:  # an object that shows no content; its kind is all that can be told
            self.add(b"kind", f"{type(value).__module__}.{type(value).__qualname__}".encode())

    def hex(self) -> str:
        return self._hash.hexdigest()


def _hashed(
    source: Source, indices: np.ndarray, roots: Sequence[str], names: Mapping[str, Any] | None = None
) -> _Digest:
    """The hash of records with their columns and class names."""
    digest = _Digest(roots)
    digest.value(names or {})
    for first in range(0, len(indices), CHUNK):
        columns = source[indices[first : first + CHUNK]]
        for name in sorted(columns):
            digest.value([name, columns[name]])
            if source.schema.get(name) in ("audio", "image") and all(isinstance(path, str) for path in columns[name]):
                digest.value([_beginning(path) for path in columns[name]])
    return digest


def _beginning(path: str) -> list[Any]:
    """Size and first bytes of a file that a record names."""
    try:
        with open(path, "rb") as file:
            return [os.fstat(file.fileno()).st_size, file.read(HEAD)]
    except OSError:  # a name that is none of a file, or one that is gone: reading it is what says so
        return []


def _of_files(data: Any) -> dict[str, Any]:
    """Path -> files and bytes, of each file or folder that the data names."""
    sizes: dict[str, Any] = {}
    values = [getattr(data, field.name) for field in dataclasses.fields(data)] if dataclasses.is_dataclass(data) else []
    for value in values:
        if isinstance(value, str) and value and (path := Path(value).expanduser()).exists():
            sizes[value] = _sizes(path)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            sizes |= _of_files(value)
    return sizes


def _sizes(path: Path) -> list[int]:
    """Files and bytes; both -1 where there are too many."""
    if path.is_file():
        return [1, path.stat().st_size]
    count, size = 0, 0
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            count += 1
            if count > MOST_FILES:
                return [-1, -1]
            size += os.stat(os.path.join(folder, name)).st_size
    return [count, size]


def _assets(folder: Path) -> list[Path]:
    """Files of fitted preprocessors, without the lengths that are cached beside them."""
    known = sorted((folder / "assets").glob("*")) if (folder / "assets").is_dir() else []
    return [path for path in known if path.is_file() and not path.name.startswith(("lengths-", "partial-"))]


def _checksum(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _changed_assets(folder: Path, noted: Mapping[str, int]) -> list[str]:
    now = {path.name: _checksum(path) for path in _assets(folder)}
    changed = {name: "was changed" if name in now else "is missing" for name in noted if now.get(name) != noted[name]}
    return [f"assets/{name} {what}" for name, what in changed.items()]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed, in words."""
    told: list[str] = []
    sampled = False
    for split in {**before["splits"], **now["splits"]}:
        one, other = before["splits"].get(split), now["splits"].get(split)
        if one is None or other is None:
            told.append(f"{split}: {'was not there' if one is None else 'is not there'}")
            continue
        sampled = sampled or one["hashed"] < one["records"]
        told += _split_differences(split, one, other)
    if not told and sampled:
        then, there = before["files"], now["files"]
        told += [
            f"{path}: {_files(then[path])} then, {_files(there[path])} now"
            for path in then
            if path in there and then[path] != there[path]
        ]
    return told


def _files(sizes: list[int]) -> str:
    count, size = sizes
    return f"{size:,} bytes" if count == 1 else f"{count:,} files of {size:,} bytes"


def _split_differences(split: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    told = []
    if one["records"] != other["records"]:
        told.append(f"{split}: {one['records']:,} records then, {other['records']:,} now")
    for what in ("columns", "classes"):
        if one[what] != other[what]:
            told.append(f"{split}: {what} {_shown(one[what])} then, {_shown(other[what])} now")
    if not told and one["content"] != other["content"]:
        told.append(f"{split}: as many records, but other values or another order")
    return told


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} ({_shown(known)})" for name, known in value.items()) or "none"
    return f"{', '.join(map(str, value)) if isinstance(value, list) else value}"[:200]
