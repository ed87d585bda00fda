"""Label checks: whether a column holds classes that can be learnt, and what a user should know of them first."""

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.class_names import FEW, MISSING, brief, class_name, class_names, spelled, too_many
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError

SHOWN = 5
"""Names that a line holds."""
MOST_NUMBERS, MOST_TEXTS = 0.5, 0.8
"""Different numbers, or texts, a training record above which a column holds no classes."""
LOOKED_AT = 1000
"""Records by which another column is proposed."""
SEPARATORS = ("|", ";", ",", "/")
"""What may part several labels of one record."""
BARE = "or predict the quantity itself: text.regress, vision.regress and table.predict do"


def counted(values: Sequence[Any] | np.ndarray) -> Counter[str]:
    """Class -> records, of a column of labels; missing ones under `MISSING`. True and TRUE are one class."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":  # of millions, in a moment
        unique, counts = np.unique(values, return_counts=True)
        return Counter(dict(zip(class_names(unique), counts.tolist(), strict=True)))
    return Counter(map(spelled, class_names(values)))


def class_counts(source: Source, column: str) -> Counter[str]:
    """Class -> records, by the name of the class where the data name them and the records hold positions."""
    counts, names = counted(source.column(column, np.arange(len(source)))), source.classes.get(column)
    named = lambda place: names[int(place)] if names and place.isdecimal() and int(place) < len(names) else place
    return Counter({named(place): count for place, count in counts.items()})


def check_classes(source: Source, column: str, flag: str) -> list[str]:
    """The classes of a column, numbers by size.

    Args:
        source: the training split.
        column: of labels.
        flag: that names the column on the command line, such as ``--task.label``.

    Raises:
        InputError: labels are missing; there is one class; or the column holds quantities, identifiers, free texts or
            lists.
    """
    values, where = source.column(column, np.arange(len(source))), f"column {column}"
    if any(isinstance(value, list | tuple) for value in values) or getattr(values, "ndim", 1) > 1:
        raise InputError(
            where,
            "holds lists: several labels a record, and a class is one label.",
            found=f"{list(values[0])!r:.60}",
            fix=_flag(source, column, flag) or "write one label a record",
        )
    counts = counted(values)
    missing = counts.pop(MISSING, 0)
    if missing:
        found = f"{len(counts)} classes, {missing:,} records without a label"
        raise InputError(where, "some labels are missing", found=found, fix="fill in or remove these records")
    numeric = is_numeric(values)
    if len(counts) < 2:
        fix = _flag(source, column, flag) or "name another label column, or add records of another class"
        raise InputError(where, "there is only one class", found=", ".join(counts) or "none", fix=fix)
    quantity = fractions(counts, numeric)
    share = MOST_NUMBERS if numeric else MOST_TEXTS
    if too_many(len(counts), len(source), share) or (len(counts) > FEW and quantity):
        kind = "numbers" if numeric else "texts"
        taken = "a quantity" if quantity else "a quantity or an identifier" if numeric else "free text or identifiers"
        examples = list(counts)[:3]
        raise InputError(
            where,
            f"holds {len(counts):,} different {kind} in {len(source):,} training records: {taken}, not classes",
            found=", ".join(map(brief, examples)) + ", ...",
            fix=_flag(source, column, flag) or (f"write classes, such as low and high, {BARE}" if numeric else ""),
        )
    return sorted(counts, key=float) if numeric and isinstance(values, np.ndarray) else sorted(counts)


def is_numeric(values: Sequence[Any] | np.ndarray) -> bool:
    """Whether labels are numbers."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "iuf"
    number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    return all(value is None or number(value) for value in values)


def fractions(counts: Mapping[str, int], numeric: bool) -> bool:
    """Whether the classes are numbers, not all of them whole."""
    return numeric and any(not re.fullmatch(r"[+-]?\d+", name) for name in counts)


def _flag(source: Source, column: str, flag: str) -> str:
    """The flag with another column that holds classes; empty where none does."""
    another = class_column(source, column, flag.rpartition(".")[2])
    return shlex.join([flag, another]) if another else ""


def class_column(source: Source, but: str = "", word: str = "label") -> str:
    """The column other than ``but`` that most likely holds classes, by records that are evenly spaced: one whose name
    has ``word`` in it, otherwise that of the fewest; empty where none does."""
    rows, likely = evenly_spaced(source, LOOKED_AT), {}
    for name, kind in source.schema.items():
        if name == but or kind not in ("text", "int", "class"):
            continue
        values = source.column(name, rows)
        if any(isinstance(value, list | tuple | np.ndarray) for value in values):
            continue
        if 2 <= (count := len(set(map(class_name, values)))) <= min(FEW, len(rows) // 2):
            likely[name] = (word not in name.lower(), count)
    return min(likely, key=likely.__getitem__, default="")


def remarks(
    column: str, splits: Mapping[str, Counter[str]], numeric: bool = False, answers: Collection[str] = ()
) -> list[str]:
    """What a user should know of the classes before training, a line each.

    Args:
        column: of labels.
        splits: split -> class -> records; ``"train"`` among them.
        numeric: whether the labels are numbers.
        answers: classes that the model can answer; those of train, and of data that name all classes the others, too.
    """
    train = splits["train"]
    records, where = train.total(), f"column {column}"
    lines = []
    if fractions(train, numeric):
        lines.append(f"{where}: numbers with fractions, each of which is a class of its own: {_listed(list(train))}")
    elif numeric and len(train) > FEW:
        lines.append(f"{where}: {len(train):,} different whole numbers, each of which is a class of its own")
    if len(train) > FEW and records < 5 * len(train):
        lines.append(
            f"{where}: {len(train):,} classes with {records / len(train):.1f} training records each, on average"
        )
    if separator := several(train):
        lines.append(
            f"{where}: labels with {separator!r} look like several labels of a record; each combination is a class of "
            f"its own: {_listed([name for name in train if separator in name])}"
        )
    alike: dict[str, list[str]] = {}
    for name in train:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            lines.append(f"{where}: different classes of nearly equal names: {_counts(train, names)}")
    whole = sum(splits.values(), Counter())
    single = [name for name in train if train[name] == 1 == whole[name]]
    if single:
        lines.append(
            f"{where}: classes of one record, which is trained on and leaves none to measure: {_listed(single)}"
        )
    for split, counts in splits.items():
        if split == "train" or not counts:
            continue
        new = [name for name in counts if name not in train and name != MISSING]
        if unseen := [name for name in new if name not in answers]:
            lines.append(f"{split}: {unseen_note(counts, unseen)}")
        if unlearnt := [name for name in new if name in answers]:
            lines.append(
                f"{split}: nothing is learnt of classes that training has no record of: {_counts(counts, unlearnt)}"
            )
        absent = [name for name in train if name not in counts and name not in single]
        if absent:
            lines.append(f"{split}: no record of {_listed(absent)}")
    return lines


def unseen_note(counts: Mapping[str, int], unseen: Sequence[str]) -> str:
    """What becomes of records of classes that training does not have."""
    number = sum(counts[name] for name in unseen)
    return (
        f"{number:,} of {sum(counts.values()):,} records are of classes that training does not have "
        f"({_counts(counts, unseen)}): they count as wrong answers, and are left out of the loss"
    )


def several(counts: Mapping[str, int]) -> str:
    """The separator of labels that look like several labels of one record; empty where none does.

    That is one in five classes or more with the separator, whose parts come again in other classes.
    """
    for separator in SEPARATORS:
        parted = [[part.strip() for part in name.split(separator)] for name in counts]
        joined = [parts for parts in parted if len(parts) > 1 and all(parts)]
        again = Counter(part for parts in parted for part in set(parts))
        shared = [parts for parts in joined if any(again[part] > 1 for part in parts)]
        if len(shared) >= max(2, 0.2 * len(counts)):
            return separator
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{brief(name)}"' for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _counts(counts: Mapping[str, int], names: Sequence[str]) -> str:
    shown = ", ".join(f'"{brief(name)}" {counts[name]:,}' for name in names[:SHOWN])
    return shown + (", ..." if len(names) > SHOWN else "")
