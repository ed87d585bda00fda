"""Records of tables that Arrow reads, CSV and Parquet files, in blocks: never held as a whole, nor copied.

A first pass judges the types of columns by all of their values, as `suite.data.sources.tables` does, and counts the
records; the second gives them.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.contracts.codec import Codec
from suite.data.sources import streamed_tables
from suite.data.sources.arrow_values import decoded
from suite.data.sources.column_types import ColumnType, Reading, judged
from suite.data.sources.table_columns import tidied
from suite.data.sources.table_text import Layout
from suite.errors import InputError
from suite.workflow.records import Block, Records, asked_columns, check, file_identity

if TYPE_CHECKING:
    import pyarrow as pa


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
            self._asked = asked_columns(codec, names)
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


class ParquetRecords(_Table):
    """A Parquet file. Columns are kept as they are."""

    def _names(self) -> list[str]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as opened:
            self.count, schema = opened.metadata.num_rows, opened.schema_arrow
        fields = [schema.field(name) for name in self._keep if name in schema.names]
        self._schema, self.kept = schema, schema.empty_table().select([column.name for column in fields]).schema
        self.kept = self.kept.remove_metadata()
        return list(schema.names)

    def _batches(self, names: Sequence[str], row: int) -> Iterator[tuple[int, Any]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as opened:
            ends = np.cumsum([opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)])
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


class CsvRecords(_Table):
    """A CSV or TSV file. Kept columns of whole numbers stay whole where there are gaps; texts stay as they are."""

    def _names(self) -> list[str]:
        self.layout, self._read, self._broken = streamed_tables.csv_batches(self._path, self._how)
        first = next(iter(self._read()), None)
        if first is None:
            raise InputError(str(self._path), "holds no records.", found="a header alone", fix="add rows")
        return list(first.schema.names)

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
