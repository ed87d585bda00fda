"""Folders and archives that hold one folder a class."""

import functools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.reading import AUDIO, IMAGES, check_utf8
from suite.data.sources.memory import ALIASES, SPLITS
from suite.errors import InputError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")
"""Extensions of archives."""


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
    dropped: dict[str, int]

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
        InputError: no image, recording or text lies in a folder of its class, or an archive is damaged.
    """
    archives = [path] if path.is_file() else sorted(file for file in path.iterdir() if is_archive(file))
    inside = path.is_dir() and any(file.is_dir() for file in path.iterdir())
    if archives and not inside:
        entries = [entry for file in archives for entry in _archived(str(file), file.stat().st_mtime_ns)]
    else:
        entries = list(_walk(str(path), ()))
    return _tree(str(path), entries)


def _walk(folder: str, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str | bytes]]:
    """(path parts, path) of all files, sorted, hidden ones left out."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, (*parts, entry.name))
        elif entry.is_file():
            yield (*parts, entry.name), entry.path


@functools.lru_cache(maxsize=2)
def _archived(path: str, changed: int) -> list[tuple[tuple[str, ...], str | bytes]]:
    """(path parts, content) of the regular files of an archive, sorted. Nothing is written to disk."""
    entries: list[tuple[tuple[str, ...], str | bytes]] = []
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
                if not member.isreg() or not parts or any(part.startswith(".") for part in parts):
                    continue
                if _kind(parts[-1]):
                    entries.append((parts, archive.extractfile(member).read()))  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(path, "this archive cannot be read", found=str(error)) from error
    return sorted(entries, key=lambda entry: entry[0])


def _kind(name: str) -> str:
    """What a file holds, by its name: ``"image"``, ``"audio"``, ``"text"`` or nothing known."""
    lower = name.lower()
    if lower.endswith(AUDIO):
        return "audio"
    return "image" if lower.endswith(IMAGES) else "text" if lower.endswith(".txt") else ""


def _tree(root: str, entries: list[tuple[tuple[str, ...], str | bytes]]) -> Tree:
    """Finds splits and classes in the paths. Folders that all files share above them are stepped over."""
    while _shared(entries):
        entries = [(parts[1:], value) for parts, value in entries if len(parts) > 1]
    placed = [_item(parts, value) for parts, value in entries]
    items = [item for item in placed if item]
    kinds = [_kind(item.name) for item in items]
    kind = max(("image", "text", "audio"), key=kinds.count)
    chosen = [item for item, its in zip(items, kinds, strict=True) if its == kind]
    if not chosen:
        raise InputError(
            root,
            "no image, recording or text lies in a folder named after its class",
            found=", ".join("/".join(parts) for parts, _ in entries[:3]) or "no file",
            fix=f"arrange files as {root}/<class>/<file> or {root}/train/<class>/<file>",
        )
    if len({bool(item.split) for item in chosen}) > 1:
        both = ", ".join(sorted({item.split or item.label for item in chosen}))
        raise InputError(root, "folders of splits and of classes lie side by side", found=both)
    return Tree(root, kind, chosen, {f"not {kind}": len(items) - len(chosen)} if len(items) > len(chosen) else {})


def _shared(entries: list[tuple[tuple[str, ...], str | bytes]]) -> bool:
    """Whether all files in folders lie in one top folder that is neither a split nor a class."""
    deep = [parts for parts, _ in entries if len(parts) > 1]
    tops = {parts[0] for parts in deep}
    return len(tops) == 1 and not _split(deep[0][0]) and any(len(parts) > 2 for parts in deep)


def _split(name: str) -> str:
    lower = name.lower()
    lower = ALIASES.get(lower, lower)
    return lower if lower in SPLITS else ""


def _item(parts: tuple[str, ...], value: str | bytes) -> Item | None:
    """The file as an item; None where it lies in no class folder."""
    split = _split(parts[0]) if len(parts) > 1 else ""
    rest = parts[1:] if split else parts
    return Item(split, rest[0], "/".join(parts), value) if len(rest) > 1 else None


def columns(tree: Tree, items: list[Item]) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:
    """Columns, schema and classes of some items of a tree.

    Raises:
        InputError: a text that is not UTF-8.
    """
    places = {name: place for place, name in enumerate(tree.classes)}
    labels = np.array([places[item.label] for item in items], np.int64)
    values = [_text(item, tree.root) for item in items] if tree.kind == "text" else [item.value for item in items]
    content = {tree.kind: values, "label": labels, "file": [item.name for item in items]}
    return content, {tree.kind: tree.kind, "label": "class", "file": "text"}, {"label": tree.classes}


def _text(item: Item, root: str) -> str:
    if isinstance(item.value, bytes):
        return check_utf8(item.value, f"{root}:{item.name}")
    with open(item.value, "rb") as file:
        return check_utf8(file.read(), item.value)
