"""Arrays from .npz and idx files, by split and column."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.reading import read_bytes
from suite.data.sources.memory import ALIASES, SPLITS, Memory
from suite.data.sources.split_names import split_of
from suite.errors import InputError

Splits = dict[str, dict[str, Any]]
"""Split -> column -> values; the split is "" where the file names none."""
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Type code of an idx file -> numpy type."""


def load_npz(path: Path) -> Splits:
    """Arrays of an .npz file by split and column.

    Raises:
        InputError: not an .npz file, or it holds pickled objects.
    """
    splits: Splits = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                split, column = _named(key)
                splits.setdefault(split, {}).update([_column(column, file[key])])
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        fix = "save plain arrays with numpy.savez; pickled objects are not read"
        raise InputError(str(path), "this .npz file cannot be read", found=str(error), fix=fix) from error
    if not splits or ("" in splits and len(splits) > 1):
        raise InputError(str(path), "keys do not agree on splits", fix="name keys x_train, y_train, x_test, y_test")
    return splits


def _named(key: str) -> tuple[str, str]:
    """Split and column that a key such as ``x_train`` or ``train_x`` stands for."""
    first, _, rest = key.partition("_")
    before, _, last = key.rpartition("_")
    for name, column in ((first, rest), (last, before)):
        split = split_of(name)
        if split and column:
            return split, column
    return "", key


def _column(name: str, values: np.ndarray) -> tuple[str, Any]:
    """Column name and values: images get a channel axis, strings become a list."""
    if name in ("y", "labels"):
        name = "label"
    if name in ("x", "images", "image") and values.dtype == np.uint8 and values.ndim in (3, 4):
        return "image", values[..., None] if values.ndim == 3 else values
    if values.dtype.kind in "US":
        return name, [value if isinstance(value, str) else value.decode("utf-8") for value in values.tolist()]
    return name, values[:, 0] if name == "label" and values.ndim == 2 and values.shape[1] == 1 else values


def idx_files(folder: Path) -> list[Path]:
    """The idx files of a folder."""
    return sorted(file for file in folder.iterdir() if "-idx" in file.name and "-ubyte" in file.name)


def load_idx(folder: Path) -> Splits:
    """Images and labels of a folder of idx files; ``t10k`` is test.

    Raises:
        InputError: none there, or one is damaged.
    """
    splits: Splits = {}
    for file in idx_files(folder):
        prefix, _, rest = file.name.partition("-")
        split = "test" if prefix == "t10k" else ALIASES.get(prefix, prefix)
        if split in SPLITS:
            splits.setdefault(split, {}).update([_column(rest.partition("-")[0], _idx(file))])
    if "train" not in splits:
        raise InputError(str(folder), "no train-images-idx3-ubyte in this folder", fix="name another folder")
    return splits


def _idx(file: Path) -> np.ndarray:
    """The array of one idx file (http://yann.lecun.com/exdb/mnist: big-endian sizes, then values)."""
    data = read_bytes(file)
    try:
        _, code, axes = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{axes}I", data, 4)
        values = np.frombuffer(data, IDX_TYPES[code], offset=4 + 4 * axes).reshape(shape)
    except (struct.error, KeyError, ValueError) as error:
        raise InputError(str(file), "this is not an idx file", found=str(error)) from error
    return values.astype(np.int64) if axes == 1 else values.astype(values.dtype.newbyteorder("="))


def keys(source: Memory) -> list[bytes]:
    """One byte string a row that says all of its content."""
    columns = source[np.arange(len(source))].values()
    rows = [
        [
            np.ascontiguousarray(v).tobytes() if isinstance(v, np.ndarray | np.generic) else str(v).encode()
            for v in column
        ]
        for column in columns
    ]
    return [b"\x1f".join(row) for row in zip(*rows, strict=True)]
