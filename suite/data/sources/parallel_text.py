"""Parallel text: two files of one split, of which line i says the same in two languages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import TABLES, existing, lines, read_text
from suite.data.sources.memory import (
    ALIASES,
    SPLITS,
    Memory,
    Subset,
    carves_validation,
    check_split,
    not_empty,
    seeded_split,
)
from suite.data.sources.split_names import split_of
from suite.data.sources.splitting import held_out_fix
from suite.errors import InputError

_PACKED = (".gz", ".txt")
"""Endings that may follow the language."""


@dataclass(frozen=True, kw_only=True)
class ParallelLines(Data):
    """A folder with two files a split, ``train.en`` and ``train.de``, one sentence a line: columns source and target.

    Files may end in .txt, .gz or both. Train and validation may bear any of their usual names. Blank lines stay, since
    they keep the two files in step; a task drops them.
    """

    path: str
    """The folder."""
    source: str = "en"
    """What the files of the source end in."""
    target: str = "de"
    """What those of the target end in."""
    test_name: str = "test"
    """What the test files begin with, where there are several test sets."""
    validation: float = 0.1
    """Share of train held out for validation where there are no such files."""
    seed: int = 0
    """Seeds what is held out, by a hash of both lines."""

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: no such folder or split, a file without its counterpart, files of different lengths, not UTF-8,
                or an empty split.
        """
        folder = existing(self.path)
        check_split(split, self.path)
        pairs = {name: pair for name in SPLITS if (pair := self._pair(folder, name))}
        if "train" not in pairs:
            listing = ", ".join(sorted(item.name for item in folder.iterdir())[:10]) if folder.is_dir() else "one file"
            raise InputError(
                self.path,
                f"no train.{self.source} and train.{self.target} in this folder: data.source and data.target say the "
                "endings.",
                found=listing or "an empty folder",
                fix="--task.data.source SOURCE --task.data.target TARGET",
            )
        carved = carves_validation(split, list(pairs), self.validation, self.path) and split != "test"
        source: Source = _read(*pairs["train" if carved else split])
        if carved:
            columns = source[np.arange(len(source))]
            keys = [f"{said}\n{same}" for said, same in zip(columns["source"], columns["target"], strict=True)]
            part = seeded_split(keys, self.seed, (self.validation, 0.0))
            source = Subset(source, np.flatnonzero(part == SPLITS.index(split)))
        return not_empty(source, split, self.path, held_out_fix("lines", split))

    def _pair(self, folder: Path, split: str) -> tuple[Path, Path] | None:
        """The two files of a split; None where it has neither."""
        files = _by_name(folder)
        usual = [split, *(alias for alias, name in ALIASES.items() if name == split)]
        for stem in [self.test_name] if split == "test" else dict.fromkeys((*usual, *_stems(files, split))):
            wanted = [f"{stem}.{ending}".lower() for ending in (self.source, self.target)]
            there = [name for name in wanted if name in files]
            if len(there) == 2:
                return files[wanted[0]], files[wanted[1]]
            if there:
                missing = next(name for name in wanted if name not in files)
                raise InputError(
                    str(files[there[0]]), f"has no counterpart {missing}.", fix="add it, or remove this one"
                )
        return None


def _by_name(folder: Path) -> dict[str, Path]:
    """Name without .txt and .gz -> file."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = file.name.lower()
        for ending in _PACKED:
            name = name.removesuffix(ending)
        if file.is_file():
            files.setdefault(name, file)
    return files


def languages(folder: Path) -> tuple[str, ...]:
    """What the files named train, or as train is usually called, end in: ``("de", "en")``; nothing where there are not
    just two, or they are tables."""
    by_name = _by_name(folder)
    stem = "train" if _of(by_name, "train") else next(iter(_stems(by_name, "train")), "train")
    files = _of(by_name, stem)
    if len(files) != 2 or any(file.name.lower().endswith((*TABLES, ".npz")) for file in files.values()):
        return ()
    return tuple(name.removeprefix(f"{stem}.") for name in files)


def _of(files: Mapping[str, Path], stem: str) -> dict[str, Path]:
    return {name: file for name, file in files.items() if name.startswith(f"{stem}.")}


def _stems(files: Iterable[str], split: str) -> list[str]:
    """What the files of a split are called before their first point, in any usual way."""
    return sorted({stem for stem in (name.partition(".")[0] for name in files) if split_of(stem) == split})


def _read(source: Path, target: Path) -> Memory:
    said, same = lines(read_text(source)), lines(read_text(target))
    if len(said) != len(same):
        raise InputError(
            f"{source.name} and {target.name}",
            "line i of one must say what line i of the other says.",
            found=f"{len(said)} and {len(same)} lines",
            fix="remove the lines that have no translation",
        )
    return Memory({"source": said, "target": same}, {"source": "text", "target": "text"})
