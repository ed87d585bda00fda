"""Records of a file in blocks, for predictions: a large table is never held in memory, nor copied.

A first pass judges the types of columns by all of their values, as `suite.data.sources.tables` does, and counts the
records; the second gives them in blocks of one size, each with the columns that are kept beside the answers.
"""

import hashlib
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.codecs.columns import check_columns
from suite.contracts.codec import Codec
from suite.contracts.kinds import KINDS
from suite.data.reading import TABLES, there
from suite.data.sources import streamed_tables
from suite.data.sources.arrow_values import decoded
from suite.data.sources.column_types import ColumnType, Judge, Reading, judged, of_values
from suite.data.sources.files import is_unicode_text, read_input, states_columns
from suite.data.sources.speech import is_manifest
from suite.data.sources.table_columns import tidied
from suite.data.sources.table_text import Layout, Utf8
from suite.errors import InputError, closest

if TYPE_CHECKING:
    import pyarrow as pa

READ = 1 << 20
"""Bytes of a file of lines that are read at a time."""
LINES = 4096
"""Records of a file of lines that the first pass looks at together."""

Block = tuple["pa.Table", dict[str, Any]]
"""(n,) columns that are kept, and columns to predict from."""


class Records(ABC):
    """Records of an input, in their order.

    Attributes:
        identity: what tells this input from another one, as JSON.
        count: how many there are.
        kept: schema of the columns that are kept beside the answers.
        dropped: reason -> number of records that cannot be read.
    """

    identity: Any
    count: int
    kept: "pa.Schema"
    dropped: dict[str, int]

    @abstractmethod
    def blocks(self, start: int, size: int) -> Iterator[Block]:
        """Blocks of ``size`` records, the last one perhaps shorter, from the record ``start`` on."""


def open_records(value: str, codec: Codec, keep: Sequence[str] = ()) -> Records:
    """The records that ``value`` names, as `suite.data.sources.files.read_input` reads them.

    Args:
        value: a table, a text file, a manifest, a folder of files, ``-`` for stdin, or a text.
        codec: of the model; its inputs are read, and nothing else.
        keep: columns that are kept beside the answers. Empty: of files their names, of lines the text.

    Raises:
        InputError: nothing is there, it cannot be read, or a column is missing.
    """
    path = there(value)
    requests = Reading.of_requests(codec)
    how = replace(requests, keep=(*requests.keep, *keep))
    name = path.name.lower().removesuffix(".gz") if path is not None and path.is_file() else ""
    if path is None or not name or is_manifest(path):
        return _held(value, path, codec, keep, how)
    if name.endswith(".parquet"):
        return _Parquet(path, codec, keep, how)
    if name.endswith((".csv", ".tsv")) or is_unicode_text(path):
        return _Csv(path, codec, keep, how)
    if name.endswith(".jsonl") and _is_lines(path):
        return _JsonLines(path, codec, keep, how)
    if name.endswith(TABLES):
        return _held(value, path, codec, keep, how)
    return _held(value, path, codec, keep, how) if _is_file_of(path, codec) else _Lines(path, codec, keep)


def _is_file_of(path: Path, codec: Codec) -> bool:
    """Whether the file is one value of the model, such as a picture."""
    return any(path.suffix.lower() in kind.extensions for kind in KINDS.values())


def check(codec: Codec, names: Sequence[str], keep: Sequence[str], where: str, whole: bool) -> None:
    """Whether an input has the columns that a model is asked by, and those that are to be kept.

    Args:
        codec: of the model.
        names: of the columns.
        keep: those that are to be kept.
        where: the input.
        whole: as `suite.codecs.columns.check_columns` has it.

    Raises:
        InputError: a column is misspelt or missing.
    """
    for name in keep:
        if name not in names:
            fix = f"--keep {shlex.quote(closest(name, names) or ','.join(names))}"
            raise InputError(f'column "{name}"', f"is none of {where}.", found=", ".join(names), fix=fix)
    inputs = {entry.name for entry in codec.inputs}
    if codec.primary in names and codec.primary not in inputs:
        return  # whole records
    known = [name for name in names if name in inputs or name not in keep]  # what is kept is no misspelt input
    check_columns(codec.inputs, known, whole)


def table_columns(table: "pa.Table", codec: Codec, keep: Sequence[str] = ()) -> dict[str, Any]:
    """Columns of an Arrow table that a model is asked by; types are judged by the values of this table.

    Raises:
        InputError: a column is missing, or one of ``keep``.
    """
    check(codec, table.column_names, keep, "the table", whole=True)
    arrays = {name: decoded(table.column(name)) for name in _asked(codec, table.column_names)}
    judges = {name: Reading.of_requests(codec).judge(name) for name in arrays}
    for name, judge in judges.items():
        judge.add(arrays[name])
    types = judged(judges)
    return {name: types[name].convert(array) for name, array in arrays.items()}


def file_identity(path: Path) -> list[Any]:
    """Of a file: where it lies, its size and when it was written."""
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


@dataclass
class _Held(Records):
    """Records that are in memory: names of files, or what was typed."""

    identity: Any
    columns: Mapping[str, Any]
    table: "pa.Table"
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(next(iter(self.columns.values()), ()))

    @property
    def kept(self) -> "pa.Schema":  # type: ignore[override]
        return self.table.schema

    def blocks(self, start: int, size: int) -> Iterator[Block]:
        for place in range(start, self.count, size):
            part = {name: values[place : place + size] for name, values in self.columns.items()}
            yield self.table.slice(place, size), part


def _held(value: str, path: Path | None, codec: Codec, keep: Sequence[str], how: Reading) -> Records:
    import pyarrow as pa

    kind = next((entry.kind for entry in codec.inputs if entry.name == codec.primary), "")
    columns = read_input(value, codec.primary, how, kind)
    check(codec, list(columns), keep, value, states_columns(value))
    names = keep or [name for name in ("file", codec.primary) if name in columns][:1]
    table = {name: _plain_array(columns[name]) for name in names}
    if path is None:
        identity: Any = hashlib.blake2b(repr(columns).encode("utf-8", "replace"), digest_size=16).hexdigest()
    elif path.is_dir():
        stated = [file_identity(Path(file)) for file in columns.get("file", ())]
        identity = hashlib.blake2b(json.dumps(stated).encode(), digest_size=16).hexdigest()
    else:
        identity = file_identity(path)
    known = {name: columns[name] for name in _asked(codec, columns)}
    return _Held(identity, known, pa.table(table))


def _plain_array(values: Any) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _asked(codec: Codec, names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Columns that the codec reads, of those that are there."""
    known = {codec.primary, *(entry.name for entry in codec.inputs)}
    return [name for name in names if name in known or name == "offset" or name == "duration"]


class _Table(Records):
    """A table of a format of Arrow, read as record batches."""

    layout: Layout | None = None

    def __init__(self, path: Path, codec: Codec, keep: Sequence[str], how: Reading):
        import pyarrow as pa

        self._path, self._keep, self._how = path, tuple(keep), how
        self.identity, self.dropped = file_identity(path), {}
        try:
            raw = self._names()
            names = tidied(raw, str(path), how.keep, how.rules)
            check(codec, names, keep, str(path), whole=True)
            self._raw = dict(zip(names, raw, strict=True))
            self._asked = _asked(codec, names)
            self._types = self._judge()
        except (pa.ArrowInvalid, OSError) as error:
            raise self._refused(error) from error

    @abstractmethod
    def _names(self) -> list[str]:
        """Of its columns, as they are written."""

    @abstractmethod
    def _batches(self, names: Sequence[str], row: int) -> Iterator[tuple[int, Any]]:
        """(place of its first row, record batch) of some columns, from a batch on that begins at ``row`` or before."""

    @abstractmethod
    def _judge(self) -> dict[str, ColumnType]:
        """Types of the columns to predict from, by all of their values; counts the rows, too."""

    @abstractmethod
    def _kept(self, table: "pa.Table") -> "pa.Table":
        """The columns that are kept."""

    @abstractmethod
    def _refused(self, error: Exception) -> InputError:
        """A file that is no table."""

    def blocks(self, start: int, size: int) -> Iterator[Block]:
        import pyarrow as pa

        names = list(dict.fromkeys((*self._asked, *self._keep)))
        raw = [self._raw[name] for name in names]
        held: list[Any] = []
        count = 0
        try:
            for place, batch in self._batches(raw, start):
                batch = batch.slice(max(start - place, 0))
                if batch.num_rows:
                    held.append(batch)
                    count += batch.num_rows
                if count >= size:
                    table = pa.Table.from_batches(held)
                    whole = count - count % size
                    yield from (self._block(table.slice(at, size), names) for at in range(0, whole, size))
                    held, count = table.slice(whole).to_batches(), count - whole
            if count:
                yield self._block(pa.Table.from_batches(held), names)
        except pa.ArrowInvalid as error:
            raise self._refused(error) from error

    def _block(self, table: "pa.Table", names: Sequence[str]) -> Block:
        table = table.select([self._raw[name] for name in names]).rename_columns(list(names))
        columns = {name: self._types[name].convert(decoded(table.column(name))) for name in self._asked}
        return self._kept(table), columns


class _Parquet(_Table):
    """A Parquet file. Columns are kept as they are."""

    def _names(self) -> list[str]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as opened:
            self.count, schema = opened.metadata.num_rows, opened.schema_arrow
        fields = [schema.field(name) for name in self._keep if name in schema.names]
        self._schema, self.kept = schema, schema.empty_table().select([each.name for each in fields]).schema
        self.kept = self.kept.remove_metadata()
        return list(schema.names)

    def _batches(self, names: Sequence[str], row: int) -> Iterator[tuple[int, Any]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as opened:
            ends = np.cumsum([opened.metadata.row_group(each).num_rows for each in range(opened.num_row_groups)])
        place = int(max((end for end in ends if end <= row), default=0))
        for batch in streamed_tables.parquet_batches(self._path, list(names), row):
            yield place, batch
            place += batch.num_rows

    def _judge(self) -> dict[str, ColumnType]:
        import pyarrow as pa

        judges = {name: self._how.judge(name) for name in self._asked}
        for name, judge in judges.items():
            judge.add(decoded(pa.chunked_array([], self._schema.field(self._raw[name]).type)))
        # Numbers with a fraction, lists and bytes are what they are; others may have gaps, or be written numbers.
        fixed = ("float64", "list", "bytes")
        open_ = [name for name, judge in judges.items() if not judge.decided and judge.type().kind not in fixed]
        raw = [self._raw[name] for name in open_]
        for _, batch in self._batches(raw, 0) if raw else ():
            for name in open_:
                if not judges[name].decided:
                    judges[name].add(decoded(batch.column(self._raw[name])))
        return judged(judges, decimal=self._how.decimal)

    def _kept(self, table: "pa.Table") -> "pa.Table":
        return table.select(list(self._keep)).replace_schema_metadata(None)

    def _refused(self, error: Exception) -> InputError:
        return InputError(str(self._path), "this is not a Parquet file", found=str(error))


class _Csv(_Table):
    """A CSV or TSV file. Kept columns of whole numbers stay whole where there are gaps; texts stay as they are."""

    def _names(self) -> list[str]:
        self.layout, self._read, self._broken = streamed_tables.csv_batches(self._path, self._how)
        first = next(iter(self._read()), None)
        return [] if first is None else list(first.schema.names)

    def _batches(self, names: Sequence[str], row: int) -> Iterator[tuple[int, Any]]:
        place = 0
        for batch in self._read():
            yield place, batch.select(list(names))
            place += batch.num_rows

    def _judge(self) -> dict[str, ColumnType]:
        import pyarrow as pa

        names = dict.fromkeys((*self._asked, *self._keep))
        judges = {name: self._how.judge(name, cells=True) for name in names}
        self.count = 0
        for _, batch in self._batches([self._raw[name] for name in judges], 0):
            for name, judge in judges.items():
                if not judge.decided:
                    judge.add(batch.column(self._raw[name]))
            self.count += batch.num_rows
        self.dropped = dict(self._broken.counts)
        types = judged(judges, self.layout.delimiter if self.layout else "", self._how.decimal)
        whole = {name for name, judge in judges.items() if judge.whole}
        self._kinds = {name: ColumnType("int64") if name in whole else types[name] for name in self._keep}
        arrow = {"int64": pa.int64(), "float64": pa.float64()}
        fields = [pa.field(name, arrow.get(kind.kind, pa.string())) for name, kind in self._kinds.items()]
        self.kept = pa.schema(fields)
        return types

    def _kept(self, table: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        arrays = []
        for name, kind in self._kinds.items():
            array = decoded(table.column(name))
            numbers = kind.kind in ("int64", "float64")
            arrays.append((kind.cells(array) if numbers else array).cast(self.kept.field(name).type))
        return pa.Table.from_arrays(arrays, schema=self.kept)

    def _refused(self, error: Exception) -> InputError:
        return streamed_tables.unreadable(str(self._path), error)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file that are not blank, read piece by piece.

    Raises:
        InputError: it is neither UTF-8 nor UTF-16.
    """
    stream, rest = Utf8(path), b""
    try:
        while piece := stream.read(READ):
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line for part in whole if (line := part.decode("utf-8").removesuffix("\r")).strip())
        if (line := rest.decode("utf-8").removesuffix("\r")).strip():
            yield line
    finally:
        stream.close()


def _is_lines(path: Path) -> bool:
    """Whether a JSONL file holds an object a line, rather than one list or one object over many lines."""
    return isinstance(_parsed(next(_lines(path), "")), dict)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _cut(rows: Iterator[Any], start: int, size: int) -> Iterator[list[Any]]:
    held: list[Any] = []
    for place, row in enumerate(rows):
        if place >= start:
            held.append(row)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


class _Lines(Records):
    """A text file with a record a line."""

    def __init__(self, path: Path, codec: Codec, keep: Sequence[str]):
        import pyarrow as pa

        check(codec, [codec.primary], keep, str(path), whole=True)
        self._path, self._column = path, codec.primary
        self.identity, self.dropped = file_identity(path), {}
        self.kept = pa.schema([pa.field(codec.primary, pa.string())])
        self.count = sum(1 for _ in _lines(path))

    def blocks(self, start: int, size: int) -> Iterator[Block]:
        import pyarrow as pa

        for texts in _cut(_lines(self._path), start, size):
            yield pa.table([texts], schema=self.kept), {self._column: texts}


class _JsonLines(Records):
    """A JSONL file, an object a line; lines that are none are counted and left out."""

    def __init__(self, path: Path, codec: Codec, keep: Sequence[str], how: Reading):
        self._path, self._keep, self._how = path, tuple(keep), how
        self.identity = file_identity(path)
        names: dict[str, None] = {}
        known = {codec.primary, *(entry.name for entry in codec.inputs)}
        judges: dict[str, Judge] = {}
        seen: dict[str, set[type]] = {name: set() for name in keep}
        self.count = broken = 0
        for rows in _cut(self._rows(True), 0, LINES):
            objects = [row for row in rows if row is not None]
            broken += len(rows) - len(objects)
            self.count += len(objects)
            names.update(dict.fromkeys(name for row in objects for name in row))
            for name in known & names.keys():
                judge = judges.setdefault(name, how.judge(name))
                values = [row.get(name) for row in objects]
                if not judge.decided and any(value is not None for value in values):
                    of_values(values, name, how, judge)
            for name, types in seen.items():
                types.update(type(row.get(name)) for row in objects)
        if not self.count:
            raise InputError(str(path), "no line of this file is a JSON object", fix='write {"text": "..."} lines')
        check(codec, list(names), keep, str(path), whole=False)
        self.dropped = {"no JSON object": broken} if broken else {}
        self._types = judged(judges, decimal=how.decimal)
        self.kept = self._schema(seen)

    def _rows(self, broken: bool = False) -> Iterator[dict[str, Any] | None]:
        for line in _lines(self._path):
            row = _parsed(line)
            if isinstance(row, dict):
                yield {name if name in self._how.keep else name.strip(): value for name, value in row.items()}
            elif broken:
                yield None

    def _schema(self, seen: Mapping[str, set[type]]) -> "pa.Schema":
        import pyarrow as pa

        plain = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
        fields = []
        for name, types in seen.items():
            kinds = types - {type(None)}
            kind = pa.float64() if kinds == {int, float} else plain.get(next(iter(kinds))) if len(kinds) == 1 else None
            fields.append(pa.field(name, kind or pa.string()))
        return pa.schema(fields)

    def blocks(self, start: int, size: int) -> Iterator[Block]:
        import pyarrow as pa

        for rows in _cut(self._rows(), start, size):
            kept = []
            for each in self.kept:
                values = [row.get(each.name) for row in rows]  # type: ignore[union-attr]
                if pa.types.is_string(each.type):
                    values = [
                        value if value is None or isinstance(value, str) else json.dumps(value) for value in values
                    ]
                kept.append(pa.array(values, each.type))
            columns = {
                name: self._column(name, [row.get(name) for row in rows], kind)  # type: ignore[union-attr]
                for name, kind in self._types.items()
            }
            yield pa.Table.from_arrays(kept, schema=self.kept), columns

    def _column(self, name: str, values: list[Any], kind: ColumnType) -> Any:
        import pyarrow as pa

        if all(value is None for value in values):
            return kind.convert(pa.nulls(len(values)))
        return kind.convert(pa.array(values, pa.string()) if kind.style else of_values(values, name, self._how)[0])
