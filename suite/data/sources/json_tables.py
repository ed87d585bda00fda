"""Records of JSON files: one object a line, a list of objects, or one object of columns."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from suite.data.reading import lines
from suite.data.sources.memory import LeftOut
from suite.data.written import has_half, may_have_halves, with_characters
from suite.errors import InputError

DIGITS = 400
"""Most digits of an integer; one of more is a text."""


def records(text: str, path: str) -> tuple[dict[str, list[Any]], LeftOut, list[str]]:
    """The values of each column, None where a record has none; lines that are no object, left out; and notes.

    Raises:
        InputError: there is no record.
    """
    whole = _whole(text)
    if isinstance(whole, Mapping) and not path.lower().removesuffix(".gz").endswith(".jsonl"):
        columns = by_columns(whole)
        if columns:
            count = len(next(iter(columns.values())))
            columns, notes = _with_characters(columns, text)
            return columns, LeftOut(), [f"an object of {len(columns):,} columns, read as {count:,} records", *notes]
    objects = whole if isinstance(whole, list) else [whole] if isinstance(whole, Mapping) else list(_lines(text))
    rows = [row for row in objects if isinstance(row, Mapping)]
    if not rows:
        raise InputError(path, "no line of this file is a JSON object", fix='write {"text": "...", "label": 1} lines')
    left = LeftOut()
    for place, row in enumerate(objects, 1):
        if not isinstance(row, Mapping):
            left.add("not a JSON object", f"record {place}")
    columns, notes = _with_characters(_columns(rows), text)
    return columns, left, notes


def _with_characters(columns: dict[str, list[Any]], text: str) -> tuple[dict[str, list[Any]], list[str]]:
    """With U+FFFD for halves of surrogate pairs, and a note on them."""
    if not may_have_halves(text):
        return columns, []
    halves = has_half(list(columns)) + sum(has_half(value) for values in columns.values() for value in values)
    if not halves:
        return columns, []
    return with_characters(columns), [f"{halves:,} values with half of a surrogate pair, read as U+FFFD"]


def _columns(rows: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def by_columns(value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns of an object as ``DataFrame.to_json`` and others write it; none where it is a record.

    Known are lists of one length, objects of one value a row, and pandas' ``orient="split"`` and ``"table"``.
    """
    if {"columns", "data"} <= value.keys() <= {"columns", "index", "data"}:
        rows = value["data"]
        names = value["columns"]
        both = isinstance(names, list) and isinstance(rows, list)
        if both and all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return {str(name): [row[place] for row in rows] for place, name in enumerate(names)}
    if value.keys() == {"schema", "data"} and isinstance(value["data"], list):
        return _columns([row for row in value["data"] if isinstance(row, Mapping)])
    values = list(value.values())
    if values and all(isinstance(column, list) for column in values) and len(set(map(len, values))) == 1:
        return {name: list(column) for name, column in value.items()}
    if values and all(isinstance(column, Mapping) and column for column in values):
        rows = list(dict.fromkeys(row for column in values for row in column))
        if all(row.lstrip("-").isdecimal() for row in rows):
            return {name: [column.get(row) for row in rows] for name, column in value.items()}
    return {}


def _whole(text: str) -> Any:
    """What all of the text holds, where it is one list or one object; else None."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    first, _, rest = text.lstrip().partition("\n")
    if rest.lstrip().startswith("{") and first.rstrip().endswith("}"):
        return None  # one object a line
    return _parsed(text)


def _lines(text: str) -> Iterator[Any]:
    """What each line that is not blank holds; None where that is no JSON."""
    return (_parsed(line) for line in lines(text) if line.strip())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= DIGITS else digits
