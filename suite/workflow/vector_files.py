"""Tables of answers as NumPy files: .npz, an array a column, and .npy, the vectors alone. Nothing in them is pickled.

Arrays are written a part of the table at a time, so that memory holds none of them whole.
"""

import shlex
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from suite.errors import InputError
from suite.workflow.answer_table import AnswerTable, flat

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".npz", ".npy")
"""Endings of files of vectors."""
VECTORS = "vectors"
"""The array of vectors, where answers hold one each."""


def check(target: Path, table: AnswerTable, keep: Sequence[str]) -> None:
    """Answers can be written to a file of vectors.

    Raises:
        InputError: they hold no vector, or, in an .npy file, more than one array.
    """
    where, vectors = f'file "{target}"', table.vectors
    if not vectors:
        names = ", ".join(column.name for column in table.columns)
        fix = f"--to {shlex.quote(str(target.with_suffix('.parquet')))}"
        raise InputError(where, "is for vectors, and answers of this model hold none.", found=names, fix=fix)
    if target.suffix.lower() == ".npy" and (keep or len(vectors) > 1):
        several = ", ".join([*keep, *vectors])
        fix = f"--to {shlex.quote(str(target.with_suffix('.npz')))}"
        raise InputError(where, "holds one array, and more are asked for.", found=several, fix=fix)


def write(path: Path, parts: Sequence[Path], table: AnswerTable) -> None:
    """Write the columns of ``parts``, Parquet files of the table's schema, to ``path``, by its ending."""
    count = _count(parts)
    if path.suffix.lower() == ".npy":
        with open(path, "wb") as file:
            _write_vectors(file, parts, table.vectors[0], count)
        return
    # Dates of members are zip's first day, so that equal arrays are equal files.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, column in _arrays(table).items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                if column in table.vectors:
                    _write_vectors(file, parts, column, count)
                else:
                    _write_column(file, parts, column, table.schema, count)


def described(path: Path) -> list[str]:
    """Each array of a file of vectors with its type and shape."""
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:
            return [f"{VECTORS} {_header(file)}"]
    with zipfile.ZipFile(path) as archive:
        lines = []
        for name in archive.namelist():
            with archive.open(name) as file:
                lines.append(f"{name.removesuffix('.npy')} {_header(file)}")
        return lines


def _header(file: IO[bytes]) -> str:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return f"{'text' if kind.kind == 'U' else kind} {' x '.join(map(str, shape))}"


def _arrays(table: AnswerTable) -> dict[str, str]:
    """Array -> column: a lone column of vectors is called ``vectors``, if no other column is."""
    names = {column: column for column in table.schema.names}
    if len(table.vectors) == 1 and VECTORS not in names:
        names[table.vectors[0]] = VECTORS
    return {array: column for column, array in sorted(names.items(), key=lambda pair: pair[0] not in table.vectors)}


def _count(parts: Sequence[Path]) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(part).num_rows for part in parts)


def _columns(parts: Sequence[Path], name: str) -> "Iterator[pa.Table]":
    import pyarrow.parquet as pq

    for part in parts:
        yield pq.read_table(part, columns=[name])


def _write_vectors(file: IO[bytes], parts: Sequence[Path], name: str, count: int) -> None:
    """float32 (n, d); not a number in rows without an answer."""
    size = 0
    for table in _columns(parts, name):
        vectors = table.column(0).drop_null()
        if len(vectors):
            size = len(vectors[0])
            break
    _begin(file, np.dtype("<f4"), (count, size))
    for table in _columns(parts, name):
        column = table.column(0).combine_chunks()
        rows = np.full((len(column), size), np.nan, np.float32)
        known = np.asarray(column.is_valid())
        rows[known] = np.asarray(column.drop_null().flatten()).reshape(-1, size) if size else 0
        file.write(rows.tobytes())


def _write_column(file: IO[bytes], parts: Sequence[Path], name: str, schema: "pa.Schema", count: int) -> None:
    """Numbers as they are, whole ones with gaps as floats; all else as text, lists as JSON, a gap as an empty text."""
    import pyarrow as pa

    convert: Callable[[Any], np.ndarray] | None
    kind, gaps = schema.field(name).type, any(table.column(0).null_count for table in _columns(parts, name))
    if pa.types.is_floating(kind) or ((pa.types.is_integer(kind) or pa.types.is_boolean(kind)) and gaps):
        dtype, convert = np.dtype("<f8"), _floats
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        dtype, convert = np.dtype(kind.to_pandas_dtype()).newbyteorder("<"), np.asarray
    else:
        longest = max((len(text) for table in _columns(parts, name) for text in _texts(table)), default=0)
        dtype, convert = np.dtype(f"<U{max(longest, 1)}"), None
    _begin(file, dtype, (count,))
    for table in _columns(parts, name):
        values: Any = _texts(table) if convert is None else convert(table.column(0))
        file.write(np.asarray(values, dtype).tobytes())


def _floats(column: Any) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()])


def _texts(table: "pa.Table") -> list[str]:
    return ["" if value is None else str(value) for value in flat(table).column(0).to_pylist()]


def _begin(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
