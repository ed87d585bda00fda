"""Encoded records taken apart, to wait one by one, and put together again as a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from suite.contracts.batch import Ragged

Row = dict[str, Any]
"""One encoded record: arrays (1, ...) or Ragged of one row."""
Record = dict[str, Any]
"""One record as it was asked: a value a column."""


def split(encoded: Mapping[str, Any], count: int) -> list[Row]:
    """Each of ``count`` encoded records by itself."""
    if count == 1:
        return [dict(encoded)]
    parts = {name: _parts(value, count) for name, value in encoded.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(count)]


def _parts(value: Any, count: int) -> list[Any]:
    if not isinstance(value, Ragged):
        return [value[i : i + 1] for i in range(count)]
    ends = np.cumsum(value.lengths)
    rows = np.split(value.values, ends[:-1])
    return [replace(value, values=row, lengths=value.lengths[i : i + 1]) for i, row in enumerate(rows)]


def records(columns: Mapping[str, Sequence[Any]], count: int) -> list[Record]:
    """Each of ``count`` records by itself, as it was asked."""
    return [{name: values[i] for name, values in columns.items()} for i in range(count)]


def gathered(asked: Sequence[Record]) -> dict[str, list[Any]]:
    """Records of one batch as columns; None where a record doesn't give a column that another one gives."""
    names = dict.fromkeys(name for record in asked for name in record)
    return {name: [record.get(name) for record in asked] for name in names}


def joined(rows: Sequence[Row]) -> Row:
    """Records as one batch, in their order."""
    if len(rows) == 1:
        return rows[0]
    return {name: _whole([row[name] for row in rows]) for name in rows[0]}


def _whole(parts: list[Any]) -> Any:
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    values, lengths = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "lengths"))
    return replace(parts[0], values=values, lengths=lengths)
