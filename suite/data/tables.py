"""CSV, TSV, JSONL and Parquet files as columns in memory."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.memory import Memory
from suite.data.reading import check_utf8, read_bytes
from suite.errors import InputError


def load(path: Path, delimiter: str, header: tuple[str, ...]) -> Memory:
    """All rows of a table; read once as long as the file does not change.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    state = path.stat()
    return _load(str(path), delimiter, header, (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=4)
def _load(path: str, delimiter: str, header: tuple[str, ...], state: tuple[int, int]) -> Memory:
    file = Path(path)
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return _parquet(file)
    data = read_bytes(file)
    text = check_utf8(data, path)
    if not text.strip():
        raise InputError(path, "this file is empty")
    if name.endswith((".jsonl", ".json")):
        return _jsonl(text, path)
    return _csv(data, path, delimiter or _sniff(name, text), header)


def keys(table: Memory) -> list[bytes]:
    """One byte string a row that says all of its content."""
    columns = table[np.arange(len(table))]
    values = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return ["\x1f".join(map(str, row)).encode("utf-8", "surrogatepass") for row in zip(*values, strict=True)]


def _sniff(name: str, text: str) -> str:
    """The delimiter: a tab in .tsv, otherwise the likeliest one in the first line; a comma where there is none."""
    if name.endswith(".tsv"):
        return "\t"
    first = text.lstrip().partition("\n")[0]
    return max((",", "\t", ";", "|"), key=first.count)


def _parquet(file: Path) -> Memory:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(file), "this is not a Parquet file", found=str(error)) from error
    return _memory(table, {})


def _csv(data: bytes, path: str, delimiter: str, header: tuple[str, ...]) -> Memory:
    """Types are inferred from the whole file: one block. What looks like a date or a truth value stays text."""
    import pyarrow as pa
    from pyarrow import csv

    broken: list[int] = []

    def skip(row: Any) -> str:
        broken.append(row.actual_columns)
        return "skip"

    def read(texts: dict[str, Any]) -> Any:
        broken.clear()
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(block_size=min(len(data) + 1, 2**31 - 1), column_names=list(header) or None),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char=False if delimiter == "\t" else '"',
                newlines_in_values=delimiter != "\t",
                invalid_row_handler=skip,
            ),
            convert_options=csv.ConvertOptions(column_types=texts),
        )

    try:
        table = read({})
        plain = (pa.types.is_temporal, pa.types.is_boolean, pa.types.is_null)
        texts = {f.name: pa.string() for f in table.schema if any(check(f.type) for check in plain)}
        table = read(texts) if texts else table
    except pa.ArrowInvalid as error:
        raise InputError(
            path, "this table cannot be read", found=str(error), fix="check delimiter and header"
        ) from error
    return _memory(table, {"wrong number of fields": len(broken)}, path)


def _memory(table: Any, dropped: dict[str, int], path: str = "") -> Memory:
    """Arrow columns as arrays (numbers) and lists (everything else)."""
    import pyarrow as pa

    if len(set(table.column_names)) < len(table.column_names):
        raise InputError(path, "two columns have the same name", found=", ".join(table.column_names))
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name]
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        columns[name] = _numbers(column) if number else _texts(column.to_pylist())
    return Memory(columns, dropped=dropped)


def _numbers(column: Any) -> np.ndarray:
    """Integers as int64, anything with gaps or fractions as float64 with nan for gaps."""
    values = column.to_numpy()
    return values.astype(np.int64 if values.dtype.kind in "iu" else np.float64)


def _texts(values: list[Any]) -> list[Any]:
    return [value if value is None or isinstance(value, str | bytes) else str(value) for value in values]


def _jsonl(text: str, path: str) -> Memory:
    """One object a line; lines that are none are dropped and counted, absent keys are missing values."""
    rows: list[dict[str, Any]] = []
    broken = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += 1
    if not rows:
        raise InputError(path, "no line of this file is a JSON object", fix='write {"text": "...", "label": 1} lines')
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _typed([row.get(name) for row in rows]) for name in names}
    return Memory(columns, dropped={"not a JSON object": broken})


def _typed(values: list[Any]) -> Any:
    """Numbers as an array, anything else as a list of strings (None: missing)."""
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and kinds & {int, float}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return _texts(values)
