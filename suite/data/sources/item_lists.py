"""Lists of items: text files with a user and the user's items a line, as published for collaborative filtering."""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import DAMAGED, existing, lines, read_text, split_files
from suite.data.sources.memory import LeftOut, Memory, check_split, not_empty
from suite.errors import InputError, MissingSplit

LISTS = (".txt", ".txt.gz")
"""Endings of files of lists."""
LOOK = 1 << 16
"""Bytes by which it is judged whether a file holds numbers alone."""
_NUMBERS = re.compile(r"\s*\d+(\s+\d+)*\s*")
_NAMES = {"user": "user_list", "item": "item_list"}
"""Column -> stem of the file that names its numbers, a name and a number a line."""


@dataclass(frozen=True, kw_only=True)
class ItemLists(Data):
    """A text file with a user a line: the user, then the items in the order of time, parted by blanks; or a folder with
    such a file a split, as LightGCN's sets are published. Columns ``user`` and ``item``, an event a record.

    Where ``user_list.txt`` or ``item_list.txt`` lies beside, a header and then a name and its number a line, events
    bear the names. Lines without items are left out and counted; so are, among numbers, lines that hold anything else,
    and numbers without a name where there are names.
    """

    path: str
    """The file or folder; files may end in .gz."""

    def open(self, split: str) -> Source:
        """Events of a split, where the path is a folder; of a file all are training.

        Raises:
            InputError: no such path or split, or no event.
        """
        path = existing(self.path)
        check_split(split, self.path)
        files = split_files(path, LISTS) if path.is_dir() else {"train": path}
        if split not in files:
            problem = f"there is no file of the split '{split}'"
            raise MissingSplit(self.path, problem, found=", ".join(files) or "no file of a split")
        return not_empty(_read(files[split]), split, self.path)

    def whole(self) -> Source | None:
        path = existing(self.path)
        return None if path.is_dir() else not_empty(_read(path), "train", self.path)


def is_item_lists(file: Path) -> bool:
    """Whether each of a file's first lines holds whole numbers alone, one of them at least two."""
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else open(file, "rb") as stream:
            head = stream.read(LOOK)
    except DAMAGED:
        return False
    first = head.decode("utf-8", "replace").split("\n")
    first = [line for line in (first[:-1] if len(head) == LOOK else first) if line.strip()]
    return any(len(line.split()) > 1 for line in first) and all(map(_NUMBERS.fullmatch, first))


def item_list_files(folder: Path) -> dict[str, Path]:
    """Split -> file of a folder of lists of numbers; nothing where train is none."""
    files = split_files(folder, LISTS)
    return files if "train" in files and is_item_lists(files["train"]) else {}


def _read(file: Path) -> Memory:
    left, names = LeftOut(), {column: _names(file.parent, stem) for column, stem in _NAMES.items()}
    numbers = is_item_lists(file) or any(names.values())
    users: list[str] = []
    items: list[str] = []
    for place, line in enumerate(lines(read_text(file)), 1):
        row, where = line.split(), f"{file.name} line {place}"
        if numbers and not all(map(str.isdecimal, row)):
            left.add("lines that hold more than numbers", where)
            continue
        if len(row) < 2:
            if row:
                left.add("users without items", where)
            continue
        user, known = row[0], row[1:]
        if names["user"]:
            if user not in names["user"]:
                left.add("users that user_list does not name", where)
                continue
            user = names["user"][user]
        if names["item"]:
            named = [names["item"][item] for item in known if item in names["item"]]
            if unnamed := len(known) - len(named):
                left.add("items that item_list does not name", where, unnamed)
            known = named
        users += [user] * len(known)
        items += known
    columns = {"user": np.array(users, np.str_), "item": np.array(items, np.str_)}
    return Memory(columns, dropped=left.counts, dropped_names=left.names)


def _names(folder: Path, stem: str) -> Mapping[str, str]:
    """Number -> name, of a file with a header and then a name and its number a line; nothing where there is none.

    Raises:
        InputError: a line ends in no number, or a number has two names.
    """
    file = next((folder / f"{stem}{ending}" for ending in LISTS if (folder / f"{stem}{ending}").is_file()), None)
    if file is None:
        return {}
    names: dict[str, str] = {}
    for place, line in enumerate(lines(read_text(file)), 1):
        row = line.split()
        if not row or (place == 1 and not row[-1].isdecimal()):  # the header
            continue
        name = " ".join(row[:-1])
        if not name or not row[-1].isdecimal() or names.get(row[-1], name) != name:
            problem = "must be a name and its number" if row[-1] not in names else "names a number that has a name"
            raise InputError(f"{file} line {place}", problem, found=line[:80], fix="correct or remove the line")
        names[row[-1]] = name
    return names
