"""Tables larger than memory: written once, in a streaming pass, as columns that are mapped into memory.

A CSV file is read block by block, a Parquet file by row groups; neither is ever held whole. The columns lie in the
cache (SUITE_CACHE, else ~/.cache/suite), in a folder that goes by the file's path, size, time and reading options. With
SUITE_CACHE=off there is none, and `suite.data.sources.tables` reads tables whole.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.cache import Packed, root
from suite.data.sources.memory import Memory
from suite.errors import InputError

BLOCK = 8 << 20
"""Bytes of a CSV file read at a time."""
ROWS = 16_384
"""Rows of a Parquet file read at a time."""
WIDER = {"int64": "float64", "float64": "text"}
"""Wider type of a column where a value does not fit its type; earlier values fit the wider type as well."""

Batches = Callable[[dict[str, str]], Iterator[Any]]
"""Column -> type, for the columns whose type is known, to Arrow record batches."""


class _Wider(Exception):
    """A column holds a value that is none of its type."""

    def __init__(self, names: Sequence[str]):
        self.names = names


def stamp(path: Path, *options: Any) -> Path:
    """The folder of a file's columns: another one where the file, or how it is read, changes. There is a cache."""
    state = path.stat()
    key = json.dumps([str(path.resolve()), state.st_mtime_ns, state.st_size, options])
    tag = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    folder = root()
    assert folder is not None
    return folder / f"table-{path.name.partition('.')[0]}-{tag}"


def columns(folder: Path, batches: Batches, types: dict[str, str], dropped: Callable[[], int]) -> Memory:
    """The table of ``folder``, written there first where it is not.

    Args:
        folder: from ``stamp``.
        batches: reads the table from its beginning, in the types given.
        types: first guesses, ``"int64"``, ``"float64"`` or ``"text"``; those left out are the table's own.
        dropped: rows left out by the last complete reading.

    Raises:
        InputError: the disk has no room.
    """
    if not (folder / "meta.json").exists():
        types = dict(types)
        while True:
            try:
                _write(folder, batches(types), types, dropped)
                break
            except _Wider as wider:
                types.update({name: WIDER[types[name]] for name in wider.names})
    return _opened(folder)


def _write(folder: Path, batches: Iterator[Any], types: dict[str, str], dropped: Callable[[], int]) -> None:
    """Writes all columns into a new folder, then gives it its name in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        with contextlib.ExitStack() as files:
            writers: dict[str, _Writer] = {}
            for batch in batches:
                for name in batch.schema.names:
                    if name not in writers:
                        types.setdefault(name, _type(batch.schema.field(name).type))
                        writers[name] = files.enter_context(_Writer(new, len(writers), types[name]))
                wider = [name for name, writer in writers.items() if not writer.add(batch[name])]
                if wider:
                    raise _Wider(wider)
        meta = {
            "columns": {name: writer.kind for name, writer in writers.items()},
            "rows": next(iter(writers.values())).count if writers else 0,
            "dropped": dropped(),
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


def _type(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_integer(kind):
        return "int64"
    return "float64" if pa.types.is_floating(kind) else "text"


class _Writer:
    """Appends one column to its file: numbers as they are, texts end to end with a file of their ends."""

    def __init__(self, folder: Path, number: int, kind: str):
        self.kind, self.count, self._end = kind, 0, 0
        self._data = open(folder / f"{number}.data", "wb")  # noqa: SIM115 - closed by __exit__
        self._ends = open(folder / f"{number}.ends", "wb") if kind == "text" else None  # noqa: SIM115
        if self._ends:
            self._ends.write(np.int64(0).tobytes())

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._data.close()
        if self._ends:
            self._ends.close()

    def add(self, column: Any) -> bool:
        """Whether all values of an Arrow array fit the type; they are written if so."""
        self.count += len(column)
        if self._ends is None:
            if self.kind == "int64" and column.null_count:
                return False
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype.kind not in "iuf":
                return False
            self._data.write(values.astype(self.kind).tobytes())
            return True
        encoded = [text_of(value).encode("utf-8", "surrogatepass") for value in column.to_pylist()]
        ends = self._end + np.cumsum([len(value) for value in encoded], dtype=np.int64)
        self._data.write(b"".join(encoded))
        self._ends.write(ends.tobytes())
        self._end = int(ends[-1]) if len(ends) else self._end
        return True


def text_of(value: Any) -> str:
    """A value that is no number as text: lists as their items between bars, a missing one empty."""
    if isinstance(value, list | tuple):
        return "|".join(map(str, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


class Mapped(Memory):
    """A table whose columns are mapped into memory from a folder of the cache."""

    def __init__(self, folder: Path, columns: dict[str, Any], schema: dict[str, str], dropped: dict[str, int]):
        super().__init__(columns, schema, dropped=dropped)
        self._folder = folder

    def kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that takes long to make, from the file ``name`` of the folder once it is made."""
        file = self._folder / name
        if not file.exists():
            partial = file.with_name(f"partial-{os.getpid()}-{name}")
            np.save(partial, make())
            os.replace(partial, file)
        return np.load(file)


def _opened(folder: Path) -> Mapped:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    columns: dict[str, Any] = {}
    for number, (name, kind) in enumerate(meta["columns"].items()):
        data = _mapped(folder / f"{number}.data", "uint8" if kind == "text" else kind)
        text = kind == "text"
        columns[name] = Packed(data, _mapped(folder / f"{number}.ends", "int64"), text=True) if text else data
    schema = {name: {"int64": "int", "float64": "float"}.get(kind, "text") for name, kind in meta["columns"].items()}
    return Mapped(folder, columns, schema, {"wrong number of fields": meta["dropped"]})


def _mapped(file: Path, dtype: str) -> np.ndarray:
    """The file as a read-only array; an empty file cannot be mapped."""
    return np.memmap(file, dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype)


def parquet(file: Path) -> Memory:
    """A Parquet file, by row groups.

    Raises:
        InputError: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches(types: dict[str, str]) -> Iterator[Any]:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(ROWS)

    try:
        return columns(stamp(file), batches, {}, lambda: 0)
    except pa.ArrowInvalid as error:
        raise InputError(str(file), "this is not a Parquet file", found=str(error)) from error


def csv(
    file: Path,
    parse: Callable[[list[int]], Any],
    header: tuple[str, ...],
    skip: int,
    texts: tuple[str, ...],
    delimiter: str,
) -> Memory:
    """A CSV file, by blocks. Types are those of the first block, widened where a later value asks for it.

    Args:
        file: may end in .gz.
        parse: makes the parse options, given a list to which it appends an entry for each row it leaves out.
        header: column names, where the file has no header line.
        skip: lines to leave out at the beginning.
        texts: columns to read as text.
        delimiter: what separates fields.

    Raises:
        InputError: not a table.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    broken: list[int] = []
    kinds = {"int64": pa.int64(), "float64": pa.float64(), "text": pa.string()}

    def batches(types: dict[str, str]) -> Iterator[Any]:
        broken.clear()
        stated = {**{name: kinds[kind] for name, kind in types.items()}, **dict.fromkeys(texts, pa.string())}
        with contextlib.closing(pa.input_stream(str(file), buffer_size=BLOCK)) as stream:
            read = arrow.ReadOptions(
                block_size=BLOCK, column_names=list(header) or None, skip_rows=skip, use_threads=False
            )
            convert = arrow.ConvertOptions(column_types=stated)
            try:
                with arrow.open_csv(stream, read, parse(broken), convert) as opened:
                    _check_names(opened.schema.names, file)
                    for field in opened.schema:
                        # A block of nothing but gaps says nothing: such a column begins as the narrowest type.
                        types.setdefault(field.name, "int64" if pa.types.is_null(field.type) else _type(field.type))
                    if any(pa.types.is_null(field.type) or not _is_plain(field.type) for field in opened.schema):
                        raise _Again
                    yield from opened
            except pa.ArrowInvalid as error:
                raise _Wider([_culprit(str(error), list(types), types, file)]) from error

    def patient(types: dict[str, str]) -> Iterator[Any]:
        try:
            yield from batches(types)
        except _Again:
            yield from batches(types)

    return columns(stamp(file, delimiter, header, texts), patient, {}, lambda: len(broken))


class _Again(Exception):
    """The first block has types that are not read as they are; nothing was yielded yet."""


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind))


def _check_names(names: Sequence[str], file: Path) -> None:
    if len(set(names)) < len(names):
        raise InputError(str(file), "two columns have the same name", found=", ".join(names))


def _culprit(message: str, names: list[str], types: dict[str, str], file: Path) -> str:
    """The column whose value has another type, by Arrow's message.

    Raises:
        InputError: the message is about something else.
    """
    match = re.search(r"In CSV column #(\d+)", message)
    name = names[int(match[1])] if match and int(match[1]) < len(names) else ""
    if types.get(name) in WIDER:
        return name
    raise InputError(str(file), "this table cannot be read", found=message, fix="check delimiter and header")
