"""Splits that data make themselves: by a hash of each record, with each class in each split where it can be."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from suite.contracts.data import Source
from suite.data.class_names import MISSING, class_names, too_many
from suite.data.notes import listed
from suite.data.reading import is_hidden
from suite.data.sources.memory import SPLITS, Subset, carves_validation, hash_places, not_empty, seeded_split

AUTO = "auto"
"""The column of classes that a task names as its label."""
SMALL = 200
"""Records below which a class gets its exact share of each split. To larger classes the hash alone gives it nearly."""
SLACK = 1.5
"""How many times the stated share may be held out, so that small classes are in each split."""


def own_split(
    keys: Sequence[bytes | str | int], seed: int, fractions: tuple[float, float], names: Sequence[str] | None = None
) -> np.ndarray:
    """Split of each record, position in ``SPLITS``, (n,) int8: by a hash of its key, so that equal keys share a split.

    Args:
        keys: of n records.
        seed: the hash is keyed by it.
        fractions: shares of validation and test.
        names: class of each record. A class of fewer than ``SMALL`` records then gets its share of each split, and at
            least one record, where it has enough: with one record it is in train alone, with two in one other split.

    Raises:
        InputError: the fractions leave nothing for training.
    """
    part = seeded_split(keys, seed, fractions)
    if names is None:
        return part
    first: dict[Hashable, int] = {}
    classes = [names[first.setdefault(key, place)] for place, key in enumerate(keys)]
    small = small_classes(Counter(zip(classes, part.tolist(), strict=True)), fractions)
    rows = np.array([place for place, name in enumerate(classes) if name in small], np.int64)
    return balanced(part, rows, [keys[row] for row in rows], [classes[row] for row in rows], seed, fractions)


def balanced(
    part: np.ndarray,
    rows: np.ndarray,
    keys: Sequence[bytes | str | int],
    classes: Sequence[str],
    seed: int,
    fractions: tuple[float, float],
) -> np.ndarray:
    """The split ``part`` (n,) with small classes in each split, as `own_split` describes it.

    Args:
        part: by the hash alone.
        rows: (m,) places of the records of small classes.
        keys, classes: of these m records; equal keys are of one class.
        seed, fractions: that ``part`` was made by.
    """
    first: dict[Hashable, int] = {}
    group = np.array([first.setdefault(key, place) for place, key in enumerate(keys)], np.int64)
    if not len(group):
        return part
    places, shares = hash_places(keys, seed), part[rows]
    by_class: dict[str, list[int]] = {}
    for place in first.values():
        by_class.setdefault(classes[place], []).append(place)
    budget = max(SLACK * sum(fractions) * len(part), 10.0 * len(fractions))
    for _, members in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0])):
        order = np.array(members)[np.argsort(places[members], kind="stable")]
        validation, test = _shares(len(order), fractions)
        budget -= validation + test
        if budget >= 0:
            shares[order] = 0
            shares[order[:validation]] = 1
            shares[order[validation : validation + test]] = 2
        elif not (shares[order] == 0).any():  # too many classes to hold out one record of each
            shares[order[-1]] = 0
    fair = part.copy()
    fair[rows] = shares[group]
    filled = lambda split: [bool((split == place).any()) for place in (1, 2)]
    return fair if filled(fair) >= filled(part) else part  # training needs records of validation first of all


def small_classes(counts: Counter[tuple[str, int]], fractions: tuple[float, float]) -> set[str]:
    """Classes of fewer than ``SMALL`` records, or without a record in one split; none where labels are no classes.

    Args:
        counts: records by class and position of the split that their hash gives.
        fractions: shares of validation and test.
    """
    wanted = [place for place, share in enumerate((1.0, *fractions)) if share]
    sizes: Counter[str] = Counter()
    for (name, _), count in counts.items():
        sizes[name] += count
    records = sizes.total()
    del sizes[MISSING]
    if len(sizes) < 2 or too_many(len(sizes), records):
        return set()
    return {name for name, size in sizes.items() if size < SMALL or not all(counts[name, place] for place in wanted)}


def _shares(count: int, fractions: tuple[float, float]) -> tuple[int, int]:
    """Records of a class that validation and test get; one at least stays for training."""
    validation, test = (max(1, int(count * share + 0.5)) if share else 0 for share in fractions)
    while validation + test > count - 1:
        if test and (test >= validation or not validation):
            test -= 1
        else:
            validation -= 1
    return validation, test


class Shares(Protocol):
    """Data that hold out shares of their records."""

    @property
    def path(self) -> str:
        """What errors call them."""

    @property
    def validation(self) -> float:
        """Share of validation."""

    @property
    def test(self) -> float:
        """Share of test."""


def records_of(
    source: Source,
    split: str,
    data: Shares,
    part: Callable[[tuple[float, float]], np.ndarray],
    given: Sequence[str] = (),
    fix: str = "",
) -> Source:
    """The records of a split: those that the data give it, or its share of what they do not part.

    Args:
        source: records of the split where it is given, otherwise all records, or those of train.
        split: its name.
        data: whose shares are held out.
        part: (shares of validation and test) -> position in ``SPLITS`` of the split of each record.
        given: splits that the data have; without any, validation and test are shares of all records.
        fix: what to do where the split is empty; by default as by `held_out_fix`.

    Raises:
        InputError: there is no such split, or it is empty.
    """
    fix = fix or held_out_fix("records", split)
    fractions = (data.validation, 0.0 if given else data.test)
    if given and (not carves_validation(split, given, data.validation, data.path) or split == "test"):
        return not_empty(source, split, data.path, fix)
    return not_empty(Subset(source, np.flatnonzero(part(fractions) == SPLITS.index(split))), split, data.path, fix)


def held_out_fix(things: str, split: str) -> str:
    """What to do where a split is empty that holds a share of ``things``."""
    if split == SPLITS[0]:
        return f"add {things}, or hold out fewer of them: --task.data.validation 0.1 --task.data.test 0.1"
    return f"add {things}, or hold out more of them: --task.data.{split} 0.3"


def files_notes(folder: Path, files: Mapping[str, Path]) -> list[str]:
    """Which files of a folder were taken for which split, where that is not plain, and which were not read."""
    read = [file.name for file in files.values()]
    unread = [item.name for item in sorted(folder.iterdir()) if item.name not in read and not is_hidden(item.name)]
    plain = all(file.name.partition(".")[0] == split for split, file in files.items())
    named = ", ".join(f"{file.name} as {split}" for split, file in files.items())
    lines = [] if plain else [f"files that name splits: {named}"]
    return lines + (
        [f"files that name no split, and are not read: {listed(unread[:5], len(unread))}"] if unread else []
    )


def known(stratify: str) -> str:
    """The column of classes; empty where no task has named it."""
    return "" if stratify == AUTO else stratify


def names_of(source: Source, column: str) -> list[str] | None:
    """Class of each record by a column; None where there is no such column."""
    if column not in source.schema:
        return None
    return class_names(source.column(column, np.arange(len(source))))
