"""Records of files of lines, JSONL and plain text, in blocks: never held as a whole.

A first pass judges the types of columns by all of their values, as `suite.data.sources.tables` does, and counts the
records; the second gives them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.contracts.codec import Codec
from suite.data import written
from suite.data.sources.column_types import ColumnType, Judge, Reading, judged, of_values
from suite.data.sources.table_text import Utf8
from suite.errors import InputError
from suite.workflow.records import Block, Records, check, file_identity

if TYPE_CHECKING:
    import pyarrow as pa

READ = 1 << 20
"""Bytes of a file of lines that are read at a time."""
LINES = 4096
"""Records of a file of lines that the first pass looks at together."""


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


def is_lines(path: Path) -> bool:
    """Whether a JSONL file holds an object a line, rather than one list or one object over many lines."""
    return isinstance(_parsed(next(_lines(path), "")), dict)


def _parsed(line: str) -> Any:
    try:
        return written.from_json(line)
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


class TextLines(Records):
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


class JsonLines(Records):
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
            arrays = []
            for column in self.kept:
                values = [row.get(column.name) for row in rows]  # type: ignore[union-attr]
                if pa.types.is_string(column.type):
                    values = [
                        value if value is None or isinstance(value, str) else json.dumps(value) for value in values
                    ]
                arrays.append(pa.array(values, column.type))
            columns = {
                name: self._column(name, [row.get(name) for row in rows], kind)  # type: ignore[union-attr]
                for name, kind in self._types.items()
            }
            yield pa.Table.from_arrays(arrays, schema=self.kept), columns

    def _column(self, name: str, values: list[Any], kind: ColumnType) -> Any:
        import pyarrow as pa

        if all(value is None for value in values):
            return kind.convert(pa.nulls(len(values)))
        return kind.convert(pa.array(values, pa.string()) if kind.style else of_values(values, name, self._how)[0])
