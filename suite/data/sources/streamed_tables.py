"""Tables larger than memory: written once, in streaming passes, as columns that are mapped into memory.

A CSV file is read block by block, a Parquet file by row groups; neither is ever held whole. The first pass judges the
types of the columns, the second writes them, as `suite.data.sources.tables` does with a table in memory. The columns
lie in the cache (SUITE_CACHE, else ~/.cache/suite), in a folder that goes by the file's path, size, time and reading
options. With SUITE_CACHE=off there is none, and tables are read whole.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.cache import Packed, root
from suite.data.sources.arrow_values import decoded
from suite.data.sources.column_types import ColumnType, Judge, Reading, judged
from suite.data.sources.memory import LeftOut, Memory
from suite.data.sources.table_columns import numbered_note, renamed, row_numbers, tidied, typing_notes
from suite.data.sources.table_text import Layout, Utf8, layout
from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import write_array

BLOCK = 8 << 20
"""Bytes of a CSV file read at a time."""
ROWS = 16_384
"""Rows of a Parquet file read at a time."""
FORMAT = 3
"""Raised where the files of a cached table change, so that older ones are left alone."""
UNEVEN = "wrong number of fields"
"""Why a row of a CSV file is left out."""
ITEMS = "\x1f"
"""Between the items of a list."""

Batches = Callable[[], Iterator[Any]]
"""Reads a table from its beginning, as Arrow record batches."""


def stamp(path: Path, how: Reading) -> Path:
    """The folder of a file's columns: another one where the file, or how it is read, changes. There is a cache."""
    state = path.stat()
    key = json.dumps([FORMAT, str(path.resolve()), state.st_mtime_ns, state.st_size, dataclasses.astuple(how)])
    tag = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    folder = root()
    assert folder is not None
    return folder / f"table-{path.name.partition('.')[0]}-{tag}"


def columns(file: Path, batches: Batches, how: Reading, dropped: LeftOut, file_layout: Layout | None) -> Memory:
    """The table of ``file``, written to the cache first where it is not there.

    Args:
        file: what is read.
        batches: reads it from its beginning.
        how: how it is read.
        dropped: what the last complete reading left out.
        file_layout: the layout of a CSV file; None: a typed format.

    Raises:
        InputError: the disk has no room, or two columns have one name.
    """
    folder = stamp(file, how)
    if not (folder / "meta.json").exists():
        judges: dict[str, Judge] = {}
        raw: list[str] = []
        for batch in batches():
            raw = batch.schema.names
            names = tidied(raw, str(file), how.keep, how.rules)
            for place, name in enumerate(names):
                judge = judges.setdefault(name, how.judge(name, file_layout is not None))
                if not judge.decided:
                    judge.add(decoded(batch.column(place)))
        types = judged(judges, file_layout.delimiter if file_layout else "", how.decimal)
        notes = [*(file_layout.notes if file_layout else ()), *renamed(raw, list(judges)), *typing_notes(judges, types)]
        _write(folder, batches(), types, how, dropped, notes)
    return _opened(folder)


def _write(
    folder: Path, batches: Iterator[Any], types: dict[str, ColumnType], how: Reading, dropped: LeftOut, notes: list[str]
) -> None:
    """Writes all columns into a new folder, then gives it its name in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        with contextlib.ExitStack() as files:
            writers = [files.enter_context(_Writer(new, place, kind)) for place, kind in enumerate(types.values())]
            for batch in batches:
                for place, writer in enumerate(writers):
                    writer.add(decoded(batch.column(place)))
        stored = {name: _column(new, place, kind.kind) for place, (name, kind) in enumerate(types.items())}
        numbers = row_numbers(stored, how.keep, how.rules)
        del stored
        meta = {
            "columns": {name: dataclasses.asdict(kind) for name, kind in types.items()},
            "row_numbers": numbers,
            "dropped": dropped.counts,
            "dropped_names": dropped.names,
            "notes": [*notes, *numbered_note(numbers)],
        }
        (new / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        new.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first: its files are the same
            os.replace(new, folder)
    except OSError as error:
        raise InputError(
            f'cache "{folder.parent}"',
            "cannot hold the columns of this table",
            found=str(error),
            fix="free some space, or SUITE_CACHE=DIR on another disk",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


class _Writer:
    """Appends one column to its files: numbers as they are; others end to end, with their ends and what is missing."""

    def __init__(self, folder: Path, place: int, kind: ColumnType):
        self._kind, self._end = kind, 0
        numbers = kind.kind in ("int64", "float64")
        names = ("data",) if numbers else ("data", "ends", "missing")
        self._files = {name: open(folder / f"{place}.{name}", "wb") for name in names}  # noqa: SIM115 - see __exit__
        if not numbers:
            self._files["ends"].write(np.int64(0).tobytes())

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, array: Any) -> None:
        """Append an Arrow array."""
        values = self._kind.convert(array)
        if isinstance(values, np.ndarray):
            self._files["data"].write(values.tobytes())
            return
        encoded = [_encoded(value) for value in values]
        ends = self._end + np.cumsum([len(value) for value in encoded], dtype=np.int64)
        self._files["data"].write(b"".join(encoded))
        self._files["ends"].write(ends.tobytes())
        self._files["missing"].write(bytes(value is None for value in values))
        self._end = int(ends[-1]) if len(ends) else self._end


def _encoded(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    text = ITEMS.join(value) if isinstance(value, list) else value or ""
    return text.encode("utf-8", "surrogatepass")


class Entries(Packed):
    """Texts, bytes or lists end to end, of which some are missing.

    Args:
        data: (bytes,) uint8.
        offsets: (n + 1,) int64 starts, and the end of the last.
        missing: (n,) uint8, 1 where a value is missing.
        kind: ``"text"``, ``"bytes"`` or ``"list"``.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray, missing: np.ndarray, kind: str):
        super().__init__(data, offsets, text=kind != "bytes")
        self._missing, self._lists = missing, kind == "list"

    def __getitem__(self, indices: np.ndarray) -> list[Any]:
        entries = super().__getitem__(np.asarray(indices))
        if self._lists:
            entries = [entry.split(ITEMS) if entry else [] for entry in entries]
        missing = self._missing[indices].tolist()
        return [None if gap else entry for entry, gap in zip(entries, missing, strict=True)]


class Mapped(Memory):
    """A table whose columns are mapped into memory from a folder of the cache."""

    def __init__(self, folder: Path, columns: dict[str, Any], schema: dict[str, str], **about: Any):
        super().__init__(columns, schema, **about)
        self._folder = folder

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that takes long to make, from the file ``name`` of the folder once it is made."""
        file = self._folder / name
        if not file.exists():
            write_array(file, make())
        return np.load(file)


def _opened(folder: Path) -> Mapped:
    meta = json_files.read_object(folder / "meta.json")
    types = {name: ColumnType(**kind) for name, kind in meta["columns"].items()}
    stored = {name: _column(folder, place, kind.kind) for place, (name, kind) in enumerate(types.items())}
    held = {name: column for name, column in stored.items() if name not in meta["row_numbers"]}
    return Mapped(
        folder,
        held,
        {name: types[name].schema for name in held},
        dropped=meta["dropped"],
        dropped_names=meta["dropped_names"],
        notes=meta["notes"],
        styles={name: types[name].written for name in held if types[name].written},
    )


def _column(folder: Path, place: int, kind: str) -> Any:
    if kind in ("int64", "float64"):
        return _mapped(folder / f"{place}.data", kind)
    data, ends, missing = (
        _mapped(folder / f"{place}.{name}", dtype)
        for name, dtype in (("data", "uint8"), ("ends", "int64"), ("missing", "uint8"))
    )
    return Entries(data, ends, missing, kind)


def _mapped(file: Path, dtype: str) -> np.ndarray:
    """The file as a read-only array; an empty file cannot be mapped."""
    return np.memmap(file, dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype)


def parquet(file: Path, how: Reading) -> Memory:
    """A Parquet file, by row groups.

    Raises:
        InputError: it is none.
    """
    import pyarrow as pa

    try:
        return columns(file, lambda: parquet_batches(file), how, LeftOut(), None)
    except pa.ArrowInvalid as error:
        raise InputError(str(file), "this is not a Parquet file", found=str(error)) from error


def parquet_batches(file: Path, names: Sequence[str] | None = None, row: int = 0) -> Iterator[Any]:
    """Record batches of the columns ``names``, None: all, from the row group on that holds ``row``; pages are read as
    they are needed, so that no row group is held whole."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as opened:
        ends = np.cumsum([opened.metadata.row_group(place).num_rows for place in range(opened.num_row_groups)])
        groups = range(int(np.searchsorted(ends, row, side="right")), opened.num_row_groups)
        yield from opened.iter_batches(ROWS, row_groups=list(groups), columns=names)


def csv(file: Path, how: Reading) -> Memory:
    """A CSV file, by blocks; it may end in .gz.

    Raises:
        InputError: not UTF-8, or not a table.
    """
    import pyarrow as pa

    file_layout, batches, broken = csv_batches(file, how)
    try:
        return columns(file, batches, how, broken, file_layout)
    except pa.ArrowInvalid as error:
        raise unreadable(str(file), error) from error


def csv_batches(file: Path, how: Reading) -> tuple[Layout, Batches, LeftOut]:
    """The layout of a CSV file, what reads it as texts, and what its last reading left out."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    broken = LeftOut()
    with contextlib.closing(Utf8(file)) as stream:
        file_layout = layout(stream.peek(), file.name, how)
    read, parsing = options(file_layout, how, BLOCK, broken)

    def batches() -> Iterator[Any]:
        with contextlib.closing(Utf8(file)) as stream, arrow.open_csv(stream, read, parsing) as opened:
            names = opened.schema.names
        broken.clear()
        convert = arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        with contextlib.closing(Utf8(file)) as stream, arrow.open_csv(stream, read, parsing, convert) as opened:
            yield from opened

    return file_layout, batches, broken


def options(file_layout: Layout, how: Reading, block: int, broken: LeftOut) -> tuple[Any, Any]:
    """Arrow's options of reading and of parsing. Rows of another number of fields are counted by ``broken``."""
    from pyarrow import csv as arrow

    header = file_layout.skip + (0 if how.header else 1)

    def skip(row: Any) -> str:
        broken.add(UNEVEN, f"row {row.number - header}" if row.number > header else "")
        return "skip"

    read = arrow.ReadOptions(
        block_size=min(block + 1, 2**31 - 1),
        column_names=list(how.header) or None,
        skip_rows=file_layout.skip,
        use_threads=False,
    )
    quote = '"' if file_layout.quoted else False
    parse = arrow.ParseOptions(
        delimiter=file_layout.delimiter,
        quote_char=quote,
        newlines_in_values=file_layout.quoted,
        invalid_row_handler=skip,
    )
    return read, parse


def unreadable(path: str, error: Exception) -> InputError:
    """The refusal of a CSV file that Arrow cannot parse."""
    return InputError(path, "this table cannot be read", found=str(error), fix="check delimiter and header")
