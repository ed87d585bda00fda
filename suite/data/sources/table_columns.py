"""Columns of tables after they are typed: their names, row numbers that are no feature, and what is said of both."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from suite.data import written
from suite.data.sources.column_types import CURRENT, ColumnType, Judge
from suite.errors import InputError

NAMELESS = re.compile(r"|Unnamed: [0-9]+|__index_level_[0-9]+__")
"""Names of columns that have none, as in the first column of ``DataFrame.to_csv``."""


def tidied(names: Sequence[str], where: str, keep: Collection[str] = (), rules: int = CURRENT) -> list[str]:
    """Column names without blanks around them, but for those of ``keep``; a nameless one is called by its place.

    Raises:
        InputError: two are the same.
    """
    if rules >= CURRENT:
        bare = [name if name in keep else name.strip(" \t\r\n\xa0\ufeff") for name in names]
        names = [name or ("" if "" in keep else f"Unnamed: {place}") for place, name in enumerate(bare)]
    if len(set(names)) < len(names):
        fix = "rename one"
        if written.looks_like_data(names) and not where.lower().endswith(".parquet"):
            fix += f", or, where the first line is a record: --task.data.header {' '.join(placeholders(len(names)))}"
        raise InputError(where, "two columns have the same name", found=", ".join(names), fix=fix)
    return list(names)


def placeholders(count: int) -> list[str]:
    """Names for the columns of a file that has no header line."""
    return ["text", "label"] if count == 2 else [*(f"column{place}" for place in range(1, count)), "label"]


def row_numbers(columns: Mapping[str, Any], keep: Collection[str] = (), rules: int = CURRENT) -> list[str]:
    """Columns that number the rows: nameless ones of whole numbers that are all different, as where rows were drawn
    from a larger table; and one called index that counts from 0 or 1."""
    if rules < CURRENT:
        return []
    names = [name for name in columns if name not in keep]
    numbers = [name for name in names if NAMELESS.fullmatch(name) and _all_different(columns[name])]
    return numbers + [name for name in names if name.lower() == "index" and _counts(columns[name])]


def _counts(column: Any) -> bool:
    if not (isinstance(column, np.ndarray) and column.dtype == np.int64 and len(column) > 1 and column[0] in (0, 1)):
        return False
    return bool((column[1:] - column[:-1] == 1).all())


def _all_different(column: Any) -> bool:
    if not (isinstance(column, np.ndarray) and column.dtype == np.int64 and len(column)):
        return False
    return bool((column[1:] > column[:-1]).all()) or len(np.unique(column)) == len(column)


def renamed(names: Sequence[str], tidy: Sequence[str]) -> list[str]:
    """Notes on names that were read without their blanks, and on columns without a name."""
    bare = [new for old, new in zip(names, tidy, strict=True) if old != new and old.strip()]
    return [f"blanks around column names are left out: {', '.join(bare)}"] if bare else []


def typing_notes(judges: Mapping[str, Judge], types: Mapping[str, ColumnType]) -> list[str]:
    """Notes on how the numbers of columns are read."""
    notes = []
    for style in written.STYLES:
        if style and (names := [name for name, kind in types.items() if kind.style == style]):
            notes.append(f"numbers with a {style}: {', '.join(names)}")
    if names := [name for name, judge in judges.items() if judge.ambiguous and types[name].kind == "text"]:
        choice = '--task.data.decimal "," or --task.data.decimal .'
        notes.append(f"texts, since 1,234 may be 1.234 or 1234: {', '.join(names)} ({choice} decides)")
    if names := [name for name, kind in types.items() if kind.kind == "digits"]:
        notes.append(f"whole numbers of many digits, kept exactly as texts: {', '.join(names)}")
    return notes


def numbered_note(names: Sequence[str]) -> list[str]:
    """A note on columns that only number the rows."""
    shown = ", ".join(f'"{name}"' for name in names)
    return [f"row numbers, left out: column {shown}"] if names else []
