"""Values of tables and of requests as numbers, categories or items, with what is missing told apart."""

import contextlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from suite.data import written
from suite.errors import InputError

Form = Literal["", "text", "number", "boolean"]
"""What the values of a column of categories are; empty: learnt by version 0.1, when values were taken as written."""

BOOLEANS = frozenset(("true", "false", "1", "0"))
"""Categories of a column of truth values."""
TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")
"""Accepted labels, in lower case."""


def text(value: Any) -> str | None:
    """A value as a category; None where it is missing. 5 and 5.0 are the same category."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) or None


def texts(values: Sequence[Any] | np.ndarray, form: Form = "", style: str = "") -> list[str | None]:
    """Each value as a category of a column of that form; None where it is missing."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iu" and form in ("", "number", "text"):
            return list(map(str, values.tolist()))
        values = values.tolist()
    if not form:
        return [value or None if type(value) is str else text(value) for value in values]
    known: dict[Any, str | None] = {}
    keys = [(type(value), value) if isinstance(value, Hashable) else (str, str(value)) for value in values]
    for key, value in zip(keys, values, strict=True):
        if key not in known:
            known[key] = category(value, form, style)
    return [known[key] for key in keys]


def category(value: Any, form: Form, style: str = "") -> str | None:
    """A value as a category of a column of that form; None where it is missing.

    It is the same for all ways to write it: blanks around a text do not count, ``true``, ``TRUE``, 1 and a boolean are
    one, and in a column of numbers ``"5.0"``, 5 and 5.0 are.
    """
    if isinstance(value, list | tuple):
        value = "|".join(filter(None, (category(item, "text") for item in value)))
    written_value = str(value).lower() if isinstance(value, bool | np.bool_) else text(value)
    written_value = written_value.strip() if written_value else ""
    if not written_value:
        return None
    said = written.truth(written_value)
    if form == "boolean":
        said = {"1": True, "1.0": True, "0": False, "0.0": False}.get(written_value, said)
        if said is None and written.is_gap(written_value):
            return None
    if form == "number":
        if said is not None:
            return str(int(said))
        if written.is_integer(written_value):
            return str(int(written_value))
        if (number := written.number(written_value, style if isinstance(value, str) else "")) is not None:
            return text(number)
    return written_value if said is None else str(said).lower()


def are_numbers(values: Sequence[Any] | np.ndarray) -> bool:
    """Whether all values that are there are numbers, and some are."""
    kinds = {type(value) for value in values if value is not None}
    return bool(kinds) and all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds)


def is_boolean(categories: Collection[str]) -> bool:
    """Whether the categories of a column, of the form ``"text"``, are those of truth values."""
    return set(categories) <= BOOLEANS and not {"true", "false"}.isdisjoint(categories)


def items(values: Sequence[Any], separator: str, form: Form = "") -> list[list[str]]:
    """The items of each list: a text parted by ``separator``, or a list. Missing: no items."""
    rows = []
    known: dict[Any, str | None] = {}

    def read(item: Any) -> str | None:
        """The item as a category; each is judged once, since histories repeat them."""
        if not isinstance(item, Hashable):
            return category(item, form)
        if (key := (type(item), item)) not in known:
            known[key] = category(item, form)
        return known[key]

    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            parts = [read(item) if form else text(item) for item in value]
        else:
            parts = [part.strip() for part in (text(value) or "").split(separator)]
            if form:
                parts = [read(part) for part in parts]
        rows.append([part for part in parts if part])
    return rows


def numbers(values: Sequence[Any] | np.ndarray, column: str, style: str = "", fix: str = "") -> np.ndarray:
    """Values as float64 (b,), nan where one is missing or infinite.

    Args:
        values: numbers, or texts that write them.
        column: its name.
        style: how texts write them, of `suite.data.written.STYLES`.
        fix: what to do about a value that is no number; empty: make a category of the column.

    Raises:
        InputError: a value that is no number.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        array = values.astype(np.float64)
    else:
        array = np.array([_number(value, column, style, fix) for value in values], np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


def _number(value: Any, column: str, style: str, fix: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        said = written.truth(value)
        number = float(said) if said is not None else written.number(value, style)
        if number is not None:
            return number
    else:
        try:
            return float(value)
        except OverflowError:
            return math.nan
        except (TypeError, ValueError):
            pass
    fix = fix or f"correct the record, or --task.fields.categorical {shlex.quote(column)}"
    raise InputError(f"column {column}", "holds a value that is no number", found=f"{value!r:.60}", fix=fix)


def clicks(values: Sequence[Any] | np.ndarray, column: str, positive: str = "") -> np.ndarray:
    """Labels as float32 (b,): 1 for a click, 0 for none, nan where the label is missing.

    Args:
        values: the label column.
        column: its name.
        positive: the value that is a click, everything else being none; empty: 1, true or yes against 0, false or no.

    Raises:
        InputError: a value that is neither.
    """
    if not positive and isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        array = values.astype(np.float64)
        other = array[~(np.isnan(array) | (array == 0) | (array == 1))]
        if other.size:
            told = [str(number) if abs(number) > 1e15 else text(number) or "" for number in other.tolist()]
            raise _no_click(column, told)
        return array.astype(np.float32)
    labels = texts(values, "text")
    if positive:
        wanted = category(positive, "text")
        return np.array([math.nan if value is None else float(value == wanted) for value in labels], np.float32)
    known: dict[str | None, float] = {None: math.nan, **dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0)}
    small = [None if value is None else value.lower() for value in labels]
    wrong = [value for value, key in zip(labels, small, strict=True) if value is not None and key not in known]
    if wrong:
        raise _no_click(column, wrong)
    return np.array([known[key] for key in small], np.float32)


def _no_click(column: str, values: Sequence[str]) -> InputError:
    problem = "holds a label that is neither 1 nor 0; task.positive names the value that is a click."
    return InputError(f"column {column}", problem, found=listed_values(values), fix=event(values))


def listed_values(values: Sequence[str]) -> str:
    """The first values that differ, for an error."""
    distinct = list(dict.fromkeys(values))
    return ", ".join(distinct[:5]) + (", ..." if len(distinct) > 5 else "")


def event(values: Sequence[str]) -> str:
    """Advice that names the rarest of these values the event: most records show none."""
    counts = Counter(values)
    return f"--task.positive {shlex.quote(min(counts, key=counts.__getitem__))}"


def from_records(records: Sequence[Any]) -> dict[str, list[Any]]:
    """Columns of records given as mappings or as JSON objects; an absent key is a missing value.

    Raises:
        InputError: a record is neither.
    """
    rows = [_record(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _record(record: Any) -> Mapping[str, Any]:
    if isinstance(record, str):
        with contextlib.suppress(json.JSONDecodeError):
            record = written.from_json(record)
    if not isinstance(record, Mapping):
        raise InputError(
            "record",
            "is no JSON object of column names and values",
            found=f"{record!r:.60}",
            fix='{"column": value, ...}, or a CSV, JSONL or Parquet file',
        )
    return record
