"""Records of an input for predictions: what they have in common, and the columns that a model is asked by."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.codecs.columns import check_columns
from suite.contracts.codec import Codec, Input
from suite.contracts.values import written_number
from suite.data.reading import beside
from suite.data.sources.arrow_values import decoded
from suite.data.sources.column_types import Reading, judged
from suite.errors import InputError, closest

if TYPE_CHECKING:
    import pyarrow as pa

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


FILES = ("image", "audio")
"""Kinds of inputs whose values may be paths of files."""


def read_cells(columns: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """Columns of a table as a request in Python gives them: gaps of inputs that may be missing are None, and what texts
    of a column of options write are numbers. Codecs of whole records read their columns themselves."""
    if codec.primary not in {entry.name for entry in codec.inputs}:
        return dict(columns)
    optional = {entry.name: entry for entry in codec.inputs if not entry.required and entry.name in columns}
    return {**columns, **{name: [_cell(value, entry) for value in columns[name]] for name, entry in optional.items()}}


def _cell(value: Any, entry: Input) -> Any:
    if value is None or value != value:
        return None
    return written_number(value) if isinstance(value, str) and entry.option and entry.kind == "number" else value


def located(columns: Mapping[str, Any], codec: Codec, folder: Path) -> dict[str, Any]:
    """Columns of a table in ``folder``, with the paths of pictures and recordings that are relative to it read as
    such."""
    names = {entry.name for entry in codec.inputs if entry.kind in FILES}
    return {
        name: [beside(value, folder) for value in values] if name in names and isinstance(values, list) else values
        for name, values in columns.items()
    }


class RequestedRecords(Records):
    """The records of an input as a codec takes them: see `read_cells`, and `located` where a table in a folder names
    files."""

    def __init__(self, records: Records, codec: Codec, folder: Path | None):
        self._records, self._codec, self._folder = records, codec, folder
        self.identity, self.count = records.identity, records.count
        self.kept, self.dropped = records.kept, records.dropped

    def blocks(self, start: int, size: int) -> Iterator[Block]:
        for kept, columns in self._records.blocks(start, size):
            cells = read_cells(columns, self._codec)
            yield kept, cells if self._folder is None else located(cells, self._codec, self._folder)


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
    arrays = {name: decoded(table.column(name)) for name in asked_columns(codec, table.column_names)}
    judges = {name: Reading.of_requests(codec).judge(name) for name in arrays}
    for name, judge in judges.items():
        judge.add(arrays[name])
    types = judged(judges)
    return read_cells({name: types[name].convert(array) for name, array in arrays.items()}, codec)


def file_identity(path: Path) -> list[Any]:
    """Of a file: where it lies, its size and when it was written."""
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def asked_columns(codec: Codec, names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Columns that the codec reads, of those that are there."""
    known = {codec.primary, *(entry.name for entry in codec.inputs)}
    return [name for name in names if name in known or name == "offset" or name == "duration"]
