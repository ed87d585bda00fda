"""Named arrays in one safetensors file: written in a stream, found where they lie, without a copy.

The format: 8 bytes of length, a JSON object that says type, shape and place of each array, the arrays end to end. It
has no types of four bits: two such values share a byte, and the object says so under ``__metadata__``.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import replaced

CODES: dict[str, str] = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""Our names of types -> the format's."""
HALVES = ("int4", "uint4")
"""Types of which two values share a byte."""
MOST_HEADER = 100_000_000
"""Bytes of the largest JSON object that is read: the limit of the format's own library."""

Arrays = Callable[[], Iterable[tuple[str, np.ndarray]]]


def write(path: Path, arrays: Arrays, about: Mapping[str, str] | None = None) -> None:
    """Write arrays, one at a time, so that the file is there as a whole or not at all.

    Args:
        path: the file.
        arrays: gives the named arrays; called twice, for the header and for the data, so that no two need be held.
        about: texts for ``__metadata__``.
    """
    with replaced(path) as file:
        file.write(_header(arrays(), about or {}))
        for _, array in arrays():
            stored = _packed(array)
            file.write(np.ascontiguousarray(stored).view(np.uint8).data if stored.size else b"")


def _header(arrays: Iterable[tuple[str, np.ndarray]], about: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {}
    halves: dict[str, Any] = {}
    end = 0
    for name, array in arrays:
        code, shape, size = CODES.get(array.dtype.name, "U8"), list(array.shape), array.nbytes
        if array.dtype.name in HALVES:
            halves[name] = [array.dtype.name, shape]
            size = -(-array.size // 2)
            shape = [size]
        begin, end = end, end + size
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    metadata = {**about, **({"halves": json.dumps(halves)} if halves else {})}
    text = json.dumps({"__metadata__": metadata, **entries} if metadata else entries).encode()
    text += b" " * (-(len(text) + 8) % 64)  # so that the data is aligned, to a line of a cache
    return len(text).to_bytes(8, "little") + text


def _packed(array: np.ndarray) -> np.ndarray:
    """The array as it is stored: of values of four bits, two in a byte, the first in its lower half."""
    if array.dtype.name not in HALVES:
        return array
    nibbles = array.reshape(-1).astype(np.int8).view(np.uint8) & 15
    nibbles = np.concatenate([nibbles, np.zeros(len(nibbles) % 2, np.uint8)])
    return nibbles[::2] | nibbles[1::2] << 4


def _unpacked(stored: np.ndarray, kind: str, shape: list[int]) -> np.ndarray:
    nibbles = np.stack([stored & 15, stored >> 4], -1).reshape(-1)[: math.prod(shape)].astype(np.int8)
    values = (nibbles ^ 8) - 8 if kind == "int4" else nibbles
    return values.astype(getattr(ml_dtypes, kind)).reshape(shape)


def read(path: Path, data: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The arrays by name.

    Args:
        path: the file.
        data: its bytes (n,) uint8, in which the arrays then lie; None: it is mapped into memory, and they are read when
            they are used, as long as nobody changes the file.

    Raises:
        InputError: the file is cut short, or its header is none.
    """
    try:
        return _read(np.memmap(path, np.uint8, "r") if data is None else data)
    except (ArithmeticError, AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        reason = json_files.in_words(error).splitlines()[0]
        raise InputError(
            f'weights "{path}"', "are cut short or tampered with.", found=reason, fix="fetch them again"
        ) from None


def _read(data: np.ndarray) -> dict[str, np.ndarray]:
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(MOST_HEADER, len(data) - 8):
        raise ValueError(f"a header of {length:,} bytes in a file of {len(data):,}")
    header = json_files.parse(data[8 : 8 + length].tobytes(), "its header", strict=True)
    data = data[8 + length :]
    halves = json.loads(header.pop("__metadata__", {}).get("halves", "{}"))
    arrays = {name: _array(data, **about) for name, about in header.items()}
    return arrays | {name: _unpacked(arrays[name], kind, shape) for name, (kind, shape) in halves.items()}


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    name = {code: name for name, code in CODES.items()}[dtype]  # no other: NumPy evaluates texts it takes for types
    kind = np.dtype(getattr(ml_dtypes, name, name))
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array {dtype} {shape} at {begin} to {end} of {len(data):,} bytes")
    return data[begin:end].view(kind).reshape(shape)
