"""CSV, TSV, JSONL and Parquet files as columns in memory, or, where they are large, mapped into it."""

import functools
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.cache import root
from suite.data.class_names import class_names
from suite.data.reading import check_utf8, lines, read_bytes
from suite.data.sources import streamed_tables
from suite.data.sources.memory import Memory, seeded_split
from suite.data.sources.splitting import balanced, names_of, own_split, small_classes
from suite.errors import InputError

LARGE = 1 << 28
"""Bytes of a file above which its columns are mapped into memory rather than held there."""
CHUNK = 8_192
"""Rows looked at together where all of a table is walked."""


def load(path: Path, delimiter: str, header: tuple[str, ...], texts: tuple[str, ...] = (), most: int = LARGE) -> Memory:
    """All rows of a table; read once as long as the file does not change.

    Args:
        path: the file.
        delimiter: what separates fields; empty: judged by the first line.
        header: names of the columns, where the file has no header line.
        texts: columns that are texts whatever they look like.
        most: bytes of the largest CSV or Parquet file that is read whole; any is where no cache is kept.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    state = path.stat()
    streams = root() is not None and not path.name.lower().removesuffix(".gz").endswith((".jsonl", ".json"))
    large = streams and state.st_size > most
    return _load(str(path), delimiter, header, texts, large, (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=4)
def _load(
    path: str, delimiter: str, header: tuple[str, ...], texts: tuple[str, ...], large: bool, state: tuple[int, int]
) -> Memory:
    file = Path(path)
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return streamed_tables.parquet(file) if large else _parquet(file)
    if large:
        first = _first_line(file)
        delimiter = delimiter or sniff(name, first)
        skip = _has_header(first, delimiter, header)
        return streamed_tables.csv(
            file, lambda broken: _parse_options(delimiter, broken), header, skip, texts, delimiter
        )
    return parse(read_bytes(file), path, delimiter, header, texts)


def parse(
    data: bytes, path: str, delimiter: str = "", header: tuple[str, ...] = (), texts: tuple[str, ...] = ()
) -> Memory:
    """All rows of a CSV, TSV or JSONL file that is in memory.

    Args:
        data: its content.
        path: what errors call it; its ending says what it is.
        delimiter: as for ``load``, and so are ``header`` and ``texts``.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    name = path.lower().removesuffix(".gz")
    text = check_utf8(data, path)
    if not text.strip():
        raise InputError(path, "this file is empty")
    if name.endswith((".jsonl", ".json")):
        return _jsonl(text, path)
    return _csv(data, path, delimiter or sniff(name, text), header, texts)


def _first_line(file: Path) -> str:
    with gzip.open(file) if file.suffix.lower() == ".gz" else open(file, "rb") as stream:
        return check_utf8(stream.readline(1 << 20), str(file))


def _has_header(text: str, delimiter: str, header: tuple[str, ...]) -> int:
    """1 where the first line is the header that was stated, to be left out; else 0."""
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    return int(bool(header) and tuple(first.split(delimiter)) == header)


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
    return ["\x1f".join("" if v is None else str(v) for v in row).encode("utf-8", "surrogatepass") for row in rows]


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


def sniff(name: str, text: str) -> str:
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


def _parse_options(delimiter: str, broken: list[int]) -> Any:
    """In tab-separated files quotes are literal. Each row of another number of fields is an entry of ``broken``."""
    from pyarrow import csv

    def skip(row: Any) -> str:
        broken.append(row.actual_columns)
        return "skip"

    tabs = delimiter == "\t"
    return csv.ParseOptions(
        delimiter=delimiter, quote_char=False if tabs else '"', newlines_in_values=not tabs, invalid_row_handler=skip
    )


def _csv(data: bytes, path: str, delimiter: str, header: tuple[str, ...], stated: tuple[str, ...]) -> Memory:
    """Types are inferred from the whole file: one block. What looks like a date or a truth value stays text."""
    import pyarrow as pa
    from pyarrow import csv

    broken: list[int] = []
    skip = _has_header(data[: 1 << 20].decode("utf-8", "replace"), delimiter, header)

    def read(texts: dict[str, Any]) -> Any:
        broken.clear()
        names, block = list(header) or None, min(len(data) + 1, 2**31 - 1)
        options = csv.ReadOptions(block_size=block, column_names=names, skip_rows=skip)
        convert = csv.ConvertOptions(column_types=texts)
        return csv.read_csv(pa.BufferReader(data), options, _parse_options(delimiter, broken), convert)

    try:
        known = dict.fromkeys(stated, pa.string())
        table = read(known)
        plain = (pa.types.is_temporal, pa.types.is_boolean, pa.types.is_null)
        texts = {f.name: pa.string() for f in table.schema if any(check(f.type) for check in plain)}
        table = read({**known, **texts}) if texts else table
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
    return [
        value if value is None or isinstance(value, str | bytes) else streamed_tables.text_of(value) for value in values
    ]


def _jsonl(text: str, path: str) -> Memory:
    """One object a line; lines that are none are dropped and counted, absent keys are missing values.

    A list of objects, in brackets, is read as well.
    """
    rows = [row for row in _objects(text) if isinstance(row, dict)]
    broken = sum(1 for _ in _objects(text)) - len(rows)
    if not rows:
        raise InputError(path, "no line of this file is a JSON object", fix='write {"text": "...", "label": 1} lines')
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _typed([row.get(name) for row in rows]) for name in names}
    return Memory(columns, dropped={"not a JSON object": broken})


def _objects(text: str) -> Iterator[Any]:
    """What each line that is not blank holds, None where that is no JSON; or the items of a list over all lines."""
    if text.lstrip().startswith("["):
        try:
            yield from json.loads(text)
            return
        except json.JSONDecodeError:
            pass
    for line in lines(text):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                yield None


def _typed(values: list[Any]) -> Any:
    """Numbers as an array, anything else as a list of strings (None: missing)."""
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and kinds & {int, float}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return _texts(values)
