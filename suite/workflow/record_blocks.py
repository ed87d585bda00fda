"""Records of an input in blocks, for predictions: tables and files of lines are streamed, names of files are held."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.contracts.codec import Codec
from suite.contracts.kinds import KINDS
from suite.data.reading import TABLES, there
from suite.data.sources.column_types import Reading
from suite.data.sources.files import is_text_table, read_input, states_columns
from suite.data.sources.speech import is_manifest
from suite.workflow.record_lines import JsonLines, TextLines, is_lines
from suite.workflow.record_tables import CsvRecords, ParquetRecords
from suite.workflow.records import FILES, Block, Records, RequestedRecords, asked_columns, check, file_identity

if TYPE_CHECKING:
    import pyarrow as pa


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
    records = _opened(value, path, codec, keep)
    names_files = path is not None and path.is_file() and any(entry.kind in FILES for entry in codec.inputs)
    return RequestedRecords(records, codec, path.parent if path is not None and names_files else None)


def _opened(value: str, path: Path | None, codec: Codec, keep: Sequence[str]) -> Records:
    requests = Reading.of_requests(codec)
    how = replace(requests, keep=(*requests.keep, *keep))
    name = path.name.lower().removesuffix(".gz") if path is not None and path.is_file() else ""
    if path is None or not name or is_manifest(path):
        return _held(value, path, codec, keep, how)
    if name.endswith(".parquet"):
        return ParquetRecords(path, codec, keep, how)
    if name.endswith((".csv", ".tsv")) or is_text_table(path):
        return CsvRecords(path, codec, keep, how)
    if name.endswith(".jsonl") and is_lines(path):
        return JsonLines(path, codec, keep, how)
    if name.endswith(TABLES):
        return _held(value, path, codec, keep, how)
    return _held(value, path, codec, keep, how) if _is_file_of(path, codec) else TextLines(path, codec, keep)


def _is_file_of(path: Path, codec: Codec) -> bool:
    """Whether the file is one value of the model, such as a picture."""
    return any(path.suffix.lower() in kind.extensions for kind in KINDS.values())


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
    known = {name: columns[name] for name in asked_columns(codec, columns)}
    return _Held(identity, known, pa.table(table))


def _plain_array(values: Any) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
