"""CSV, TSV, JSON, JSONL and Parquet files as columns in memory, or, where they are large, mapped into it."""

import functools
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.cache import root
from suite.data.class_names import class_names
from suite.data.reading import check_utf8, read_bytes
from suite.data.sources import json_tables, streamed_tables
from suite.data.sources.arrow_values import decoded
from suite.data.sources.column_types import ColumnType, Reading, judged, of_values
from suite.data.sources.memory import LeftOut, Memory, seeded_split
from suite.data.sources.splitting import balanced, names_of, own_split, small_classes
from suite.data.sources.table_columns import numbered_note, renamed, row_numbers, tidied, typing_notes
from suite.data.sources.table_text import Layout, Utf8, layout, sniff
from suite.errors import InputError

__all__ = ["CHUNK", "LARGE", "Reading", "keys", "load", "parse", "parts", "sniff"]

LARGE = 1 << 28
"""Bytes of a file above which its columns are mapped into memory rather than held there."""
CHUNK = 8_192
"""Rows looked at together where all of a table is walked."""


def load(path: Path, how: Reading = Reading(), most: int = LARGE) -> Memory:
    """All rows of a table; read once as long as the file does not change.

    Args:
        path: the file.
        how: how it is read.
        most: bytes of the largest CSV or Parquet file that is read whole; any is where no cache is kept.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    state = path.stat()
    streams = root() is not None and not path.name.lower().removesuffix(".gz").endswith((".jsonl", ".json"))
    return _load(str(path), how, streams and state.st_size > most, (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=4)
def _load(path: str, how: Reading, large: bool, state: tuple[int, int]) -> Memory:
    file = Path(path)
    if file.name.lower().removesuffix(".gz").endswith(".parquet"):
        return streamed_tables.parquet(file, how) if large else _parquet(file, how)
    return streamed_tables.csv(file, how) if large else parse(read_bytes(file), path, how)


def parse(data: bytes, path: str, how: Reading = Reading()) -> Memory:
    """All rows of a CSV, TSV, JSON or JSONL file that is in memory.

    Args:
        data: its content.
        path: what errors call it; its ending says what it is.
        how: how it is read.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    text = check_utf8(data, path)
    if not text.strip():
        raise InputError(path, "this file is empty", found=f"{len(data):,} bytes", fix="add a header line and rows")
    if path.lower().removesuffix(".gz").endswith((".jsonl", ".json")):
        return _json(text, path, how)
    stream = Utf8(path, data)
    file_layout = layout(stream.peek(), path, how)
    return _csv(stream.read(), path, file_layout, how)


def keys(table: Memory) -> Iterator[bytes]:
    """One byte string a row that says all of its content."""
    for chunk in _chunks(table):
        yield from chunk


def _chunks(table: Memory) -> Iterator[list[bytes]]:
    for start in range(0, max(len(table), 1), CHUNK):
        yield _keys(table[np.arange(start, min(start + CHUNK, len(table)))])


def _keys(columns: dict[str, Any]) -> list[bytes]:
    values = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    rows = zip(*values, strict=True)
    return ["\x1f".join(map(_written, row)).encode("utf-8", "surrogatepass") for row in rows]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(value)
    return "" if value is None else str(value)


def parts(table: Memory, seed: int, fractions: tuple[float, float], column: str = "") -> np.ndarray:
    """(n,) split of each row by a hash of its content, see ``own_split``; kept beside a table that is mapped.

    ``column`` names the classes of which each split gets its share; empty: none does.
    """
    column = column if column in table.schema else ""
    if not isinstance(table, streamed_tables.Mapped):
        return own_split(list(keys(table)), seed, fractions, names_of(table, column) if column else None)
    name = f"split-{seed}-{fractions[0]:g}-{fractions[1]:g}.npy"
    part = table.kept(name, lambda: np.concatenate([seeded_split(chunk, seed, fractions) for chunk in _chunks(table)]))
    if not column:
        return part
    number = list(table.schema).index(column)
    return table.kept(f"{number}-{name}", lambda: _balanced(table, part, seed, fractions, column))


def _balanced(table: Memory, part: np.ndarray, seed: int, fractions: tuple[float, float], column: str) -> np.ndarray:
    """The split of a mapped table with small classes in each part; their rows alone are held in memory."""
    counts: Counter[tuple[str, int]] = Counter()
    for start in range(0, len(table), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(table)))
        counts.update(zip(class_names(table.column(column, rows)), part[rows].tolist(), strict=True))
    small = small_classes(counts, fractions)
    places: list[int] = []
    for start in range(0, len(table) if small else 0, CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(table)))
        named = zip(rows.tolist(), class_names(table.column(column, rows)), strict=True)
        places += [row for row, name in named if name in small]
    rows = np.array(places, np.int64)
    return balanced(part, rows, _keys(table[rows]), class_names(table.column(column, rows)), seed, fractions)


def _parquet(file: Path, how: Reading) -> Memory:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(file), "this is not a Parquet file", found=str(error)) from error
    return _memory(table, str(file), how)


def _csv(data: bytes, path: str, file_layout: Layout, how: Reading) -> Memory:
    import pyarrow as pa
    from pyarrow import csv

    broken = LeftOut()
    try:
        read, parsing = streamed_tables.options(file_layout, how, max(len(data), 1), broken)
        with csv.open_csv(io.BytesIO(data), read, parsing) as opened:
            names = opened.schema.names
        broken.clear()
        convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        table = csv.read_csv(pa.BufferReader(data), read, parsing, convert)
    except pa.ArrowInvalid as error:
        raise streamed_tables.unreadable(path, error) from error
    return _memory(table, path, how, file_layout, broken)


def _memory(
    table: Any, path: str, how: Reading, file_layout: Layout | None = None, broken: LeftOut | None = None
) -> Memory:
    """An Arrow table as columns."""
    names = tidied(table.column_names, path, how.keep, how.rules)
    arrays = {name: decoded(table.column(place)) for place, name in enumerate(names)}
    judges = {name: how.judge(name, file_layout is not None) for name in names}
    for name, judge in judges.items():
        judge.add(arrays[name])
    types = judged(judges, file_layout.delimiter if file_layout else "", how.decimal)
    columns = {name: types[name].convert(array) for name, array in arrays.items()}
    notes = [
        *(file_layout.notes if file_layout else ()),
        *renamed(table.column_names, names),
        *typing_notes(judges, types),
    ]
    return _held(columns, types, how, broken or LeftOut(), notes)


def _held(
    columns: dict[str, Any], types: dict[str, ColumnType], how: Reading, dropped: LeftOut, notes: list[str]
) -> Memory:
    """Columns in memory, without those that only number the rows."""
    numbers = row_numbers(columns, how.keep, how.rules)
    held = {name: column for name, column in columns.items() if name not in numbers}
    schema = {name: types[name].schema for name in held}
    styles = {name: types[name].written for name in held if types[name].written}
    said = [*notes, *numbered_note(numbers)]
    return Memory(held, schema, dropped=dropped.counts, dropped_names=dropped.names, notes=said, styles=styles)


def _json(text: str, path: str, how: Reading) -> Memory:
    """Lines that are no object are dropped and counted, absent keys are missing values."""
    values, broken, notes = json_tables.records(text, path)
    names = tidied(list(values), path, how.keep, how.rules)
    told = [of_values(column, name, how) for name, column in zip(names, values.values(), strict=True)]
    judges = {name: judge for name, (_, judge) in zip(names, told, strict=True)}
    types = judged(judges, decimal=how.decimal)
    columns = {name: types[name].convert(array) for name, (array, _) in zip(names, told, strict=True)}
    notes = [*notes, *renamed(list(values), names), *typing_notes(judges, types)]
    return _held(columns, types, how, broken, notes)
