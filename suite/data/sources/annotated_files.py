"""Files of annotated pictures: a folder or an archive, and its pictures by the names that annotations give them."""

import functools
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from suite.data.preprocessing.boxes import Box
from suite.data.reading import IMAGES, check_utf8, read_bytes
from suite.data.sources import folders
from suite.data.sources.memory import LeftOut
from suite.data.sources.split_names import split_of
from suite.errors import InputError

DESCRIPTIONS = (".yaml", ".yml")
"""Extensions of descriptions of a folder: naming one is naming the folder."""
MOST_BYTES = 1 << 30
"""Bytes of the largest file of annotations that is read."""


class Stated(NamedTuple):
    """A picture as annotations state it.

    Attributes:
        picture: name of the picture among the files; empty where it is missing.
        boxes: in its pixels, or in shares of its sides. A label that is empty names no known class.
        size: width and height that are stated; None where none are.
        shares: whether boxes are in shares of width and height.
        where: what the annotation is called.
    """

    picture: str
    boxes: list[Box]
    size: tuple[int, int] | None
    shares: bool
    where: str


class Masked(NamedTuple):
    """A picture with its mask.

    Attributes:
        split: empty where none is named.
        picture: name of the picture among the files.
        mask: uint8 (h, w), numbers of classes; 255 where pixels are of none.
        where: what the annotation is called.
    """

    split: str
    picture: str
    mask: np.ndarray
    where: str


class Annotations(NamedTuple):
    """What annotations of a format say.

    Attributes:
        splits: split -> its pictures; the split is empty where none is named.
        left: split -> what was left out on reading.
        notes: what was guessed.
    """

    splits: dict[str, list[Stated]]
    left: dict[str, LeftOut]
    notes: list[str]

    def add(self, split: str, stated: Stated) -> None:
        """One more picture of a split."""
        self.splits.setdefault(split, []).append(stated)

    def leave_out(self, split: str, reason: str, name: str) -> None:
        """One more picture, or box, of a split that is not read."""
        self.left.setdefault(split, LeftOut()).add(reason, name)


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a folder or an archive, or one file and what it names; equal where nothing that is read of them
    changed.

    Attributes:
        root: the folder or the archive.
        entries: name relative to the root, with "/" -> path, or content where it lies in an archive. Pictures that
            annotations name elsewhere come to them.
        left: what is hidden or cannot be opened.
        state: changes where a file of annotations, or the number of files, does.
        one: the file, where the others of its folder are looked at only for pictures that it names.
    """

    root: str
    entries: dict[str, str | bytes]
    left: LeftOut
    state: tuple[Any, ...]
    one: str = ""

    @classmethod
    def of(cls, path: Path) -> "Files":
        """Those below a folder, or in an archive; or one file.

        Raises:
            InputError: an archive that is damaged, or a folder that cannot be opened.
        """
        path = path.parent if path.name.lower().endswith(DESCRIPTIONS) else path
        left, status = LeftOut(), path.stat()
        if path.is_dir():
            entries = _below(path, left)
            written = [Path(str(file)).stat() for name, file in entries.items() if is_annotation(name)]
            state: tuple[Any, ...] = (len(entries), sum(hash((file.st_mtime_ns, file.st_size)) for file in written))
            return cls(str(path), entries, left, state)
        if not folders.is_archive(path):
            state = (path.name, status.st_mtime_ns, status.st_size)
            return cls(str(path.parent), {path.name: str(path)}, left, state, path.name)
        members, refused = folders.archived(str(path), status.st_mtime_ns)
        for reason, name in refused:
            left.add(reason, name)
        return cls(str(path), {"/".join(parts): value for parts, value in members}, left, (status.st_mtime_ns,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and (self.root, self.one, self.state) == (other.root, other.one, other.state)

    def __hash__(self) -> int:
        return hash((self.root, self.one, self.state))

    def named(self, *endings: str) -> list[str]:
        """Names of the files that end so, in any case, sorted."""
        return [name for name in self.entries if name.lower().endswith(endings)]

    @functools.cached_property
    def pictures(self) -> dict[str, list[str]]:
        """Name without its folder -> names of the pictures called so."""
        if self.one:
            self.entries.update(_below(Path(self.root), LeftOut()))
        by_name: dict[str, list[str]] = {}
        for name in self.named(*IMAGES):
            by_name.setdefault(posixpath.basename(name), []).append(name)
        return by_name

    @functools.cached_property
    def stems(self) -> dict[str, list[str]]:
        """Name without its folder and extension -> names of the pictures called so."""
        by_stem: dict[str, list[str]] = {}
        for name, places in self.pictures.items():
            by_stem.setdefault(posixpath.splitext(name)[0], []).extend(places)
        return by_stem

    def text(self, name: str) -> str:
        """A file as text.

        Raises:
            InputError: it is neither UTF-8 nor UTF-16, or is larger than `MOST_BYTES`.
        """
        return check_utf8(self.data(name), self.called(name))

    def data(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            InputError: it is larger than `MOST_BYTES`.
        """
        value = self.entries[name]
        size = len(value) if isinstance(value, bytes) else Path(value).stat().st_size
        if size > MOST_BYTES:
            raise InputError(self.called(name), f"is larger than {MOST_BYTES:,} bytes.", found=f"{size:,} bytes")
        return value if isinstance(value, bytes) else read_bytes(Path(value))

    def called(self, name: str) -> str:
        """What errors call a file."""
        value = self.entries.get(name, b"")
        return value if isinstance(value, str) else f"{self.root}:{name}"

    def find(self, name: str, beside: str = "", split: str = "", stem: bool = False) -> str:
        """The picture that an annotation means, by its path from the root, from the annotation, or by its own name
        alone; empty where there is none, or where several are called so.

        Args:
            name: as it is stated.
            beside: folder of the annotation.
            split: of several pictures called so, the one in a folder of this split is meant.
            stem: whether ``name`` lacks the extension.
        """
        plain = name.replace("\\", "/")
        for folder in () if stem else ("", beside):
            path = posixpath.normpath(posixpath.join(folder, plain))
            if path not in self.entries and Path(self.root).is_dir() and Path(self.root, path).is_file():
                self.entries[path] = str(Path(self.root, path))
            if path in self.entries:
                return path
        base = posixpath.basename(plain)
        places = (self.stems if stem else self.pictures).get(base, [])
        if len(places) > 1:
            near = [place for place in places if posixpath.dirname(place) == beside]
            wanted = [place for place in places if split and split_in(place) == split]
            ending = [place for place in places if f"/{place}".endswith(f"/{plain.lstrip('/')}")] if not stem else []
            places = next((found for found in (near, ending, wanted) if len(found) == 1), [])
        return places[0] if len(places) == 1 else ""


def _below(folder: Path, left: LeftOut) -> dict[str, str | bytes]:
    """The files below a folder."""
    return {"/".join(parts): value for parts, value in folders.walk(folder, left)}


def is_annotation(name: str) -> bool:
    """Whether a file may hold annotations, by its name."""
    return name.lower().endswith(folders.ANNOTATIONS)


def split_in(name: str) -> str:
    """The split that a folder of a path is named after, the innermost first; empty where none is."""
    return next(filter(None, map(split_of, reversed(name.split("/")[:-1]))), "")


def split_named(name: str) -> str:
    """The split of a file of annotations: that of its own name, or of a word of it, or of a folder of its path; empty
    where nothing names one."""
    stem = posixpath.basename(name).partition(".")[0]
    words = stem.replace("-", "_").split("_")
    by_word = {split_of(word) for word in words} - {""}
    return split_of(stem) or (by_word.pop() if len(by_word) == 1 else "") or split_in(name)


def listed_names(text: str) -> list[str]:
    """The lines of a list that are not blank, without what follows a blank, as VOC's lists of a class have it."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def first_names(names: Iterable[str], most: int = 3) -> str:
    """A few names, for a note."""
    chosen = list(names)
    return ", ".join(chosen[:most]) + (", ..." if len(chosen) > most else "")
