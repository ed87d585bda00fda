"""Values of tables as users write them, as numbers, texts or items, with what is missing told apart."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.errors import InputError

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


def texts(values: Sequence[Any] | np.ndarray) -> list[str | None]:
    """Each value as a category; None where it is missing."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iu":
            return list(map(str, values.tolist()))
        values = values.tolist()
    return [value or None if type(value) is str else text(value) for value in values]


def items(values: Sequence[Any], separator: str) -> list[list[str]]:
    """The items of each list: a text parted by ``separator``, or a list. Missing: no items."""
    rows = []
    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            parts = [text(item) for item in value]
        else:
            parts = [part.strip() for part in (text(value) or "").split(separator)]
        rows.append([part for part in parts if part])
    return rows


def numbers(values: Sequence[Any] | np.ndarray, column: str) -> np.ndarray:
    """Values as float64 (b,), nan where one is missing or infinite.

    Raises:
        InputError: a value that is no number.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        array = values.astype(np.float64)
    else:
        array = np.array([_number(value, column) for value in values], np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


def _number(value: Any, column: str) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        fix = f"correct the record, or --task.fields.categorical {column}"
        raise InputError(
            f"column {column}", "holds a value that is no number", found=f"{value!r:.60}", fix=fix
        ) from None


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
        array = values.astype(np.float32)
        other = array[~(np.isnan(array) | (array == 0) | (array == 1))]
        if other.size:
            raise _no_click(column, text(float(other[0])) or "")
        return array
    written = texts(values)
    if positive:
        return np.array([math.nan if value is None else float(value == positive) for value in written], np.float32)
    known: dict[str | None, float] = {None: math.nan, **dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0)}
    small = [None if value is None else value.strip().lower() for value in written]
    wrong = next((value for value, key in zip(written, small, strict=True) if key not in known), None)
    if wrong is not None:
        raise _no_click(column, wrong)
    return np.array([known[key] for key in small], np.float32)


def _no_click(column: str, value: str) -> InputError:
    return InputError(
        f"column {column}",
        "holds a label that is neither 1 nor 0",
        found=value,
        fix=f"--task.positive {value} makes that value a click and every other none",
    )


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
            record = json.loads(record)
    if not isinstance(record, Mapping):
        raise InputError(
            "record",
            "is no JSON object of column names and values",
            found=f"{record!r:.60}",
            fix='{"column": value, ...}, or a CSV, JSONL or Parquet file',
        )
    return record
