"""Folders and archives that hold one folder a class."""

import contextlib
import functools
import os
import shlex
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.reading import AUDIO, IMAGES, TABLES, check_utf8, is_hidden
from suite.data.sources.memory import SPLITS, LeftOut
from suite.data.sources.split_names import ALIASES, read_as, split_of
from suite.errors import InputError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")
"""Extensions of archives."""
ANNOTATIONS = (".xml", ".json", ".txt", ".csv", ".tsv", ".jsonl", ".parquet", ".yaml", ".yml", ".names", ".labels")
"""Extensions of files that may hold annotations."""


Entry = tuple[tuple[str, ...], str | bytes]
"""The parts of a file's path below the root, and its whole path, or its content where it lies in an archive."""


@dataclass(frozen=True)
class Item:
    """One file: its split (empty: none named), class, name relative to the root, and path or content."""

    split: str
    label: str
    name: str
    value: str | bytes


@dataclass(frozen=True)
class Tree:
    """All usable files below a path, of one kind."""

    root: str
    kind: str
    items: list[Item]
    left: LeftOut
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> list[str]:
        """Splits that have a folder; empty where classes are at the top."""
        present = {item.split for item in self.items} - {""}
        return [split for split in SPLITS if split in present]

    @property
    def classes(self) -> list[str]:
        """Sorted names of the class folders, over all splits."""
        return sorted({item.label for item in self.items})


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar archive."""
    return path.name.lower().endswith(ARCHIVES)


def scan(path: Path) -> Tree:
    """The files below a folder, or within an archive or a folder of archives.

    Raises:
        InputError: no image, recording or text lies in a folder of its class, splits and classes lie side by side, or
            an archive is damaged.
    """
    left = LeftOut()
    return _tree(str(path), _read(path, left), left)


def scan_all(path: Path) -> Tree:
    """The same of files that need no class: where some lie in no class folder, all files of one kind, without classes.
    Folders at the top that are named as splits are splits.

    Raises:
        InputError: there is no image, recording or text, or an archive is damaged.
    """
    left = LeftOut()
    entries = _read(path, left)
    kinds = [_kind(parts[-1]) for parts, _ in entries]
    kind = max(("image", "text", "audio"), key=kinds.count)
    placed = [(parts, value) for parts, value in entries if _kind(parts[-1]) == kind]
    if placed and all(len(parts) > 1 for parts, _ in placed):
        classes = LeftOut()
        with contextlib.suppress(InputError):
            tree = _tree(str(path), entries, classes)
            if len(tree.items) == len(placed):
                return replace(tree, left=left)
    for parts, _ in entries:
        if _kind(parts[-1]) != kind:
            left.add(f"not {kind}", "/".join(parts))
    if not placed:
        raise InputError(str(path), "no image, recording or text lies here", found="; ".join(left.lines()) or "no file")
    split = lambda parts: split_of(parts[0]) if len(parts) > 1 else ""
    splits = {split(parts) for parts, _ in placed}
    whole = "" in splits  # files beside the folders of splits: all are of one set
    items = [Item("" if whole else split(parts), "", "/".join(parts), value) for parts, value in placed]
    return Tree(str(path), kind, items, left, ("files of no class: classes are not read from folders",))


def _read(path: Path, left: LeftOut) -> list[Entry]:
    """The files below a folder, or within an archive or a folder of archives."""
    archives = [path] if path.is_file() else sorted(file for file in _entries(path) if is_archive(file))
    inside = path.is_dir() and any(file.is_dir() and not is_hidden(file.name) for file in _entries(path))
    if not archives or inside:
        return list(walk(path, left))
    entries = []
    for file in archives:
        members, refused = archived(str(file), file.stat().st_mtime_ns)
        entries += members
        for reason, name in refused:
            left.add(reason, name)
    return entries


def _entries(path: Path) -> list[Path]:
    """What lies in a folder.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        return list(path.iterdir())
    except OSError as error:
        raise InputError(str(path), "this folder cannot be opened", found=str(error.strerror)) from error


def walk(path: Path, left: LeftOut) -> Iterator[Entry]:
    """The readable files below a folder, sorted; what is hidden or cannot be opened is counted in ``left``."""
    yield from _walk(str(path), (), left, frozenset())


def _walk(folder: str, parts: tuple[str, ...], left: LeftOut, above: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    try:
        state = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        left.add("cannot be opened", "/".join((*parts, "")))
        return
    above |= {(state.st_dev, state.st_ino)}
    for entry in entries:
        inside = (*parts, entry.name)
        status: os.stat_result | None = None
        with contextlib.suppress(OSError):  # of a link to nothing
            status = entry.stat()
        is_folder, is_file = status is not None and entry.is_dir(), status is not None and entry.is_file()
        if reason := _refused(inside, is_folder, None if status is None else status.st_size):
            left.add(reason, "/".join((*inside, "")) if is_folder else "/".join(inside))
        elif is_folder:
            if status is not None and (status.st_dev, status.st_ino) in above:
                left.add("link to a folder above", "/".join((*inside, "")))
            else:
                yield from _walk(entry.path, inside, left, above)
        elif is_file and os.access(entry.path, os.R_OK):
            yield inside, entry.path
        else:
            left.add("cannot be opened", "/".join(inside))


def _refused(parts: tuple[str, ...], is_folder: bool, size: int | None) -> str:
    """Why a file or folder is left out before anything is known of its content; empty where it isn't."""
    if is_hidden(parts[-1]):
        return "hidden file"
    try:
        parts[-1].encode("utf-8")
    except UnicodeEncodeError:
        return "name that is not UTF-8"
    return "empty file" if size == 0 and not is_folder and _kind(parts[-1]) in ("image", "audio") else ""


@functools.lru_cache(maxsize=2)
def archived(path: str, changed: int) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The regular files of an archive, sorted, and (reason, name) of what is left out. Nothing is written to disk.

    Args:
        path: of the archive.
        changed: when it was written.

    Raises:
        InputError: the archive is damaged.
    """
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
                if member.isdir() or not parts:
                    continue
                above = [_refused(parts[: place + 1], True, None) for place in range(len(parts) - 1)]
                own = _refused(parts, False, member.size) if member.isreg() else "link"
                reason = next(filter(None, above), own)
                if reason:
                    refused.append((reason, "/".join(parts)))
                elif _kind(parts[-1]) or parts[-1].lower().endswith(ANNOTATIONS):
                    entries.append((parts, archive.extractfile(member).read()))  # type: ignore[union-attr]
                else:
                    entries.append((parts, b""))  # counted as of another kind
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(path, "this archive cannot be read", found=str(error)) from error
    return sorted(entries, key=lambda entry: entry[0]), refused


def _kind(name: str) -> str:
    """What a file holds, by its name: ``"image"``, ``"audio"``, ``"text"`` or nothing known."""
    lower = name.lower()
    if lower.endswith(AUDIO):
        return "audio"
    return "image" if lower.endswith(IMAGES) else "text" if lower.endswith(".txt") else ""


def _tree(root: str, entries: list[Entry], left: LeftOut) -> Tree:
    """Finds splits and classes in the paths. Folders that all files share above them are stepped over."""
    deep = [_kind(parts[-1]) for parts, _ in entries if len(parts) > 1]
    kind = max(("image", "text", "audio"), key=deep.count)
    for parts, _ in entries:
        if _kind(parts[-1]) != kind:
            left.add(f"not {kind}", "/".join(parts))
    placed = [(parts, value) for parts, value in entries if _kind(parts[-1]) == kind]
    while _shared(placed):
        for parts, _ in placed:
            if len(parts) == 1:
                left.add("in no class folder", parts[0])
        placed = [(parts[1:], value) for parts, value in placed if len(parts) > 1]
    place, notes = _layout(root, placed)
    items = []
    for parts, value in placed:
        if item := place(parts, value):
            items.append(item)
        else:
            left.add("in no class folder", "/".join(parts))
    if not items:
        listing = [name for (name, *inner), _ in entries if not inner and name.lower().endswith(TABLES)]
        fix = f"arrange files as {root}/<class>/<file> or {root}/train/<class>/<file>"
        if listing and Path(root, listing[0]).is_file():
            fix = f"--data {shlex.quote(str(Path(root, listing[0])))}"
        problem = "no image, recording or text lies in a folder named after its class"
        raise InputError(root, problem, found="; ".join(left.lines()) or "no file", fix=fix)
    return Tree(root, kind, items, left, (*notes, *_doubts(items)))


def _shared(entries: list[Entry]) -> bool:
    """Whether all files in folders lie in one top folder that is neither a split nor a class."""
    deep = [parts for parts, _ in entries if len(parts) > 1]
    tops = {parts[0] for parts in deep}
    return len(tops) == 1 and deep[0][0].lower() not in (*SPLITS, *ALIASES) and any(len(parts) > 2 for parts in deep)


Place = Callable[[tuple[str, ...], str | bytes], Item | None]


def _layout(root: str, entries: list[Entry]) -> tuple[Place, list[str]]:
    """What turns a path into an item, None where the file lies in no class folder; and what is to be said of it.

    Raises:
        InputError: folders of splits and of classes lie side by side.
    """
    deep = [parts for parts, _ in entries if len(parts) > 1]
    tops = {parts[0]: split_of(parts[0]) for parts in deep}
    with_classes = {parts[0] for parts in deep if len(parts) > 2}
    named, others = {top for top in tops if tops[top]}, {top for top in tops if not tops[top]}
    if named and others and not named & with_classes:  # no folder of a class lies in them
        if named == {"train"} or named == {"Train"}:
            return _by_class, [f"{_quoted(named)} taken for a class, not for a split: no folder of a class lies in it"]
        said = f"{_quoted(named)} taken for splits without classes, and left out: no folder of a class lies in them"
        return lambda parts, value: None if parts[0] in named else _by_class(parts, value), [said]
    if named and others:
        raise InputError(
            root,
            "folders of splits and of classes lie side by side",
            found=", ".join(sorted(tops)),
            fix=shlex.join(["mv", *(f"{root}/{top}" for top in sorted(others)), f"{root}/.."]),
        )
    if named:
        again = {top for top in named if _within(deep, top, tops[top])}

        def by_split(parts: tuple[str, ...], value: str | bytes) -> Item | None:
            rest = parts[2:] if parts[0] in again else parts[1:]
            return Item(split_of(parts[0]), rest[0], "/".join(parts), value) if len(rest) > 1 else None

        return by_split, read_as(named, "folder")
    inner = {parts[1] for parts in deep if len(parts) > 2 and split_of(parts[1])}
    if inner and all(len(parts) > 2 and parts[1] in inner for parts in deep):

        def within_class(parts: tuple[str, ...], value: str | bytes) -> Item | None:
            return Item(split_of(parts[1]), parts[0], "/".join(parts), value) if len(parts) > 2 else None

        return within_class, [f"folders within those of classes are taken for splits: {_quoted(inner)}"]
    if inner:
        return _by_class, [f"{_quoted(inner)} within folders of classes taken for no split: other files lie beside"]
    return _by_class, []


def _by_class(parts: tuple[str, ...], value: str | bytes) -> Item | None:
    return Item("", parts[0], "/".join(parts), value) if len(parts) > 1 else None


def _within(deep: list[tuple[str, ...]], top: str, split: str) -> bool:
    """Whether the folder of a split holds nothing but one of its name, as in ``seg_train/seg_train/glacier``."""
    below = [parts for parts in deep if parts[0] == top]
    return all(len(parts) > 2 and split_of(parts[1]) == split for parts in below) and any(len(p) > 3 for p in below)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def _doubts(items: list[Item]) -> list[str]:
    """Classes that look like one, and classes that a split lacks."""
    alike: dict[str, set[str]] = defaultdict(set)
    for label in {item.label for item in items}:
        alike[unicodedata.normalize("NFKC", label).casefold().strip()].add(label)
    notes = [f"different classes of nearly equal names: {_quoted(names)}" for names in alike.values() if len(names) > 1]
    labels: dict[str, set[str]] = defaultdict(set)
    for item in items:
        labels[item.split].add(item.label)
    every = set().union(*labels.values())
    for split in SPLITS:
        if split in labels and (absent := every - labels[split]):
            shown = _quoted(sorted(absent)[:3]) + (", ..." if len(absent) > 3 else "")
            notes.append(f"no file of {split} is of the class {shown}")
    return sorted(notes)


def columns(tree: Tree, items: list[Item]) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:
    """Columns, schema and classes of some items of a tree.

    Raises:
        InputError: a text that is not UTF-8.
    """
    places = {name: place for place, name in enumerate(tree.classes)}
    labels = np.array([places[item.label] for item in items], np.int64)
    values = [_text(item, tree.root) for item in items] if tree.kind == "text" else [item.value for item in items]
    content = {tree.kind: values, "label": labels, "file": [item.name for item in items]}
    if tree.classes == [""]:
        del content["label"]
        return content, {tree.kind: tree.kind, "file": "text"}, {}
    return content, {tree.kind: tree.kind, "label": "class", "file": "text"}, {"label": tree.classes}


def _text(item: Item, root: str) -> str:
    if isinstance(item.value, bytes):
        return check_utf8(item.value, f"{root}:{item.name}")
    with open(item.value, "rb") as file:
        return check_utf8(file.read(), item.value)
