"""Requests that are no JSON: a file as the body, or a form with files and fields, as columns."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.columns import check_columns
from suite.contracts.kinds import input_kind
from suite.contracts.signature import Input
from suite.contracts.values import json_type
from suite.data.sources import tables
from suite.data.sources.column_types import Reading
from suite.data.sources.table_text import Utf8, layout
from suite.errors import InputError
from suite.serving.checks import Checks
from suite.serving.errors import Refused, refused
from suite.serving.json_body import KEYS, parsed
from suite.serving.seeds import FIELD

TABLES = {
    "text/csv": "table.csv",
    "text/tab-separated-values": "table.tsv",
    "application/jsonl": "table.jsonl",
    "application/x-ndjson": "table.jsonl",
}
"""Media types of tables, and what a file of that type is called."""
FILE = "file"
"""Name of a part that stands for the primary input, or for a table."""
MOST_COLUMNS = KEYS
"""Most columns of a table."""
MOST_PARTS = 1_000
"""Most parts of a form."""
_LINE = re.compile(rb"\S[^\n]*")
_QUOTED = rb'(?<![^%s\r\n])"(?:[^"]++|"")*+"?'
"""A field in quotes, with the delimiter to be put in: only where it begins with them, as tables are read."""


@dataclass
class Part:
    """One field or file of a form.

    Attributes:
        name: of the field.
        filename: of the file; empty for a plain field.
        type: its media type.
        data: its bytes.
    """

    name: str = ""
    filename: str = ""
    type: str = ""
    data: bytearray = field(default_factory=bytearray)


def whole(body: bytes, media: str, checks: Checks) -> dict[str, list[Any]]:
    """The columns of a body that is one file.

    Raises:
        Refused: the model takes no such file, or it holds what is refused.
    """
    if media in TABLES:
        return _table(body, TABLES[media], checks)
    wanted = next((entry for entry in checks.inputs if entry.name == checks.primary), None)
    if wanted is None or not input_kind(wanted.kind).takes(media):
        raise Refused(
            415,
            "unsupported_media_type",
            f"a body of the type {media[:100] or 'nothing'} is not read.",
            fix=_types(checks),
        )
    return checks.written({checks.primary: [_value(wanted, body)]})


def records_of(body: bytes, media: str, checks: Checks) -> dict[str, list[Any]]:
    """The columns of a table of records, in which files may stand as JSON writes them.

    Raises:
        Refused: it is no table, or it holds what is refused.
    """
    if media not in TABLES:
        raise not_read(media)
    if TABLES[media].endswith(".jsonl"):
        return checks.records(_objects(body, TABLES[media], checks))
    return _table(body, TABLES[media], checks)


def not_read(media: str) -> Refused:
    """The refusal of a body that is no table, where one is wanted."""
    message = f"a body of the type {media[:100] or 'nothing'} is not read here."
    return Refused(415, "unsupported_media_type", message, fix=f"Content-Type: {', '.join(TABLES)}")


def form(body: bytes, boundary: bytes, checks: Checks) -> tuple[dict[str, list[Any]], list[bytes]]:
    """The columns of a form: a field or a file an input, each as often as there are records; or one table. And what its
    fields ``seed`` hold, where the model draws its answers.

    Raises:
        Refused: the form is broken, or it holds what is refused.
    """
    parts, seeds = _parts(body, boundary), []
    inputs = {entry.name: entry for entry in checks.inputs}
    if checks.samples and FIELD not in inputs:
        seeds = [bytes(part.data) for part in parts if part.name == FIELD]
        parts = [part for part in parts if part.name != FIELD]
    if not parts:
        raise Refused(400, "empty", "the form has no field and no file.", fix=_fields(checks))
    table = next((part for part in parts if part.filename and _table_name(part)), None)
    if table is not None and len(parts) == 1:
        return _table(bytes(table.data), _table_name(table), checks), seeds
    columns: dict[str, list[Any]] = {}
    for part in parts:
        name = checks.primary if part.name == FILE and FILE not in inputs else part.name
        if name not in inputs:
            raise Refused(400, "unknown", "is no input of this model.", field=name[:100], fix=_fields(checks))
        columns.setdefault(name, []).append(_value(inputs[name], bytes(part.data)))
    counts = sorted({len(values) for values in columns.values()})
    if len(counts) > 1:
        message = f"fields occur {' and '.join(map(str, counts))} times; each must occur once a record."
        raise Refused(400, "uneven", message, fix="send JSON for records of different fields")
    return checks.written(columns), seeds


def _value(entry: Input, data: bytes) -> Any:
    """A file as its bytes; a field as text, of which an empty one is a missing value unless it is to be read."""
    if input_kind(entry.kind).file:
        return data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})."
        raise Refused(400, "invalid_text", message, field=entry.name) from None
    return text if text or input_kind(entry.kind).textual else None


def _table(data: bytes, name: str, checks: Checks) -> dict[str, list[Any]]:
    """The columns of a table; values as `suite.data.sources.tables` reads them, so that they are those of training."""
    if checks.files:
        raise Refused(
            415, "unsupported_media_type", "this model takes files, which a table doesn't hold.", fix=_types(checks)
        )
    if name.endswith(".jsonl"):
        return _some(_jsonl(data, name, checks), checks, whole=False)
    names = tuple(entry.name for entry in checks.inputs)
    how = Reading(texts=checks.texts, styles=tuple(checks.styles.items()), keep=names)
    try:
        text = Utf8(name, data).read()
        file_layout = layout(text, name, how)
        # What the table comes to is known before anything is made of it: lines and fields, without those inside quotes.
        delimiter = re.escape(file_layout.delimiter.encode())
        bare = re.sub(_QUOTED % delimiter, b"", text) if file_layout.quoted else text
        checks.count(bare.count(b"\n") + bare.count(b"\r") - bare.count(b"\r\n") - 1 - file_layout.skip)
        if max((line.count(file_layout.delimiter.encode()) for line in bare.splitlines()), default=0) > MOST_COLUMNS:
            raise _too_wide(name)
        table = tables.parse(text, name, how)
    except InputError as error:
        raise refused(error) from None
    if table.dropped:
        raise Refused(400, "broken_table", "a row has another number of fields than the header.", field=name)
    return _some({key: _plain(values) for key, values in table[np.arange(len(table))].items()}, checks, whole=True)


def _jsonl(data: bytes, name: str, checks: Checks) -> dict[str, list[Any]]:
    """The columns of an object a line. Both numbers are known before they are multiplied."""
    records = _objects(data, name, checks)
    names = dict.fromkeys(key for record in records for key in record)
    if len(names) > MOST_COLUMNS:
        raise _too_wide(name)
    return {key: [record.get(key) for record in records] for key in names}


def _objects(data: bytes, name: str, checks: Checks) -> list[dict[str, Any]]:
    """An object a line."""
    checks.count(sum(1 for _ in _LINE.finditer(data)))
    fix, records = f'{{"{checks.inputs[0].name}": ...}}', []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        record = parsed(line, f"line {number}", fix)
        if not isinstance(record, dict):
            message = f"line {number} must be an object, not {json_type(record)}."
            raise Refused(400, "wrong_type", message, field=name, fix=fix)
        records.append(record)
    return records


def _too_wide(name: str) -> Refused:
    return Refused(413, "too_many_columns", f"the table has more than {MOST_COLUMNS:,} columns.", field=name)


def _some(columns: dict[str, list[Any]], checks: Checks, whole: bool) -> dict[str, list[Any]]:
    """The columns that are inputs; those of a table with a header are ``whole``, see `check_columns`."""
    if not columns or not len(next(iter(columns.values()))):
        raise Refused(400, "empty", "the table has no record.", field=FILE)
    try:
        check_columns(checks.inputs, columns, whole)
    except InputError as error:
        raise refused(error) from None
    return checks.written(columns)


def _plain(values: Any) -> list[Any]:
    """Python's own values, None where one is missing."""
    listed = values if isinstance(values, list) else values.tolist()
    return [None if value != value else value for value in listed]


def _table_name(part: Part) -> str:
    """What the table in a part is called; empty where it holds none."""
    ending = part.filename.lower().rpartition(".")[2]
    by_name = f"table.{ending}" if ending in ("csv", "tsv", "jsonl") else ""
    return by_name or TABLES.get(part.type, "")


def _types(checks: Checks) -> str:
    primary = checks.primary_kind
    other = next(iter(primary.media_types if primary else ()), "text/csv")
    return f"Content-Type: application/json, multipart/form-data, {other}"


def _fields(checks: Checks) -> str:
    return ", ".join(entry.name for entry in checks.inputs)[:300]


def _parts(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of a form, in their order."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, "invalid_form", f"the form is broken: {error}"[:300]) from None
    if not reader.ended:
        raise Refused(400, "invalid_form", "the form breaks off: its last boundary is missing.")
    return reader.parts


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._header, self._content = bytearray(), bytearray()
        self.callbacks: Any = {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._name,
            "on_header_value": self._value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MOST_PARTS:
            raise Refused(400, "too_many_records", f"the form has more than {MOST_PARTS:,} parts.")
        self.parts.append(Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        part, name = self.parts[-1], bytes(self._header).lower()
        if name == b"content-disposition":
            _, options = parse_options_header(bytes(self._content))
            part.name = options.get(b"name", b"").decode("utf-8", "replace")
            part.filename = options.get(b"filename", b"").decode("utf-8", "replace")
        elif name == b"content-type":
            part.type = bytes(self._content).partition(b";")[0].strip().lower().decode("latin-1")
        self._header, self._content = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True
