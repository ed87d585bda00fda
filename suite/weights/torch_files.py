"""Tensors of files that ``torch.save`` wrote: zip archives, and the format before PyTorch 1.6.

The pickle in such a file is read by `suite.weights.tensor_pickle`, which runs nothing of it; tensors are views of the
file, mapped into memory.
"""

import mmap
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from suite.weights import tensor_pickle
from suite.weights.tensor_pickle import Refused, Storage, Tensor

WEIGHTS, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
NESTED = ("state_dict", "model_state_dict", "model")
"""Where a checkpoint of a training keeps the tensors of the model, in this order."""
ERRORS: tuple[type[Exception], ...] = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError)
ERRORS += (ValueError, struct.error, zipfile.BadZipFile)
"""What damaged files raise here."""
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_LOCAL = struct.Struct("<4s22xHH")
"""A zip archive's header before each file: signature, lengths of the name and of what follows it."""


def tensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Tensor name -> function that gives it, as a view of the file.

    Raises:
        Refused: the file asks for something else than tensors.
        ERRORS: it is damaged.
    """
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # lives as long as its views
        found, places = _of_archive(file) if zipfile.is_zipfile(file) else _of_stream(file)
    data = np.frombuffer(mapped, np.uint8)
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for name, tensor in _named(found).items():
        if tensor.storage.key not in places:
            raise ValueError(f"no storage of {name}")
        start, size = places[tensor.storage.key]
        if start < 0 or start + size > len(data) or _kind(tensor.storage).itemsize * tensor.storage.count > size:
            raise ValueError(f"the storage of {name} is cut short")
        readers[name] = _reader(data[start : start + size], tensor)
    return readers


def _named(found: Any) -> dict[str, Tensor]:
    """The tensors by name, of a dictionary of them or of one in which a training kept them.

    Raises:
        Refused: there is none, or an entry beside tensors is none.
    """
    if not isinstance(found, dict):
        raise Refused(f"a {type(found).__name__} in the place of tensors by name")
    inner = next((found[name] for name in NESTED if isinstance(found.get(name), dict)), None)
    if inner is not None and not any(isinstance(value, Tensor) for value in found.values()):
        found = inner
    others = [str(name) for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others or not found:
        raise Refused(f"entries that are no tensors: {', '.join(others[:6])}" if others else "no tensors")
    return found


def _kind(storage: Storage) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, storage.format, storage.format))


def _reader(data: np.ndarray, tensor: Tensor) -> Callable[[], np.ndarray]:
    """Gives the tensor, whose numbers `suite.weights.tensor_pickle` has found inside its storage."""

    def read() -> np.ndarray:
        kind = _kind(tensor.storage)
        numbers = data[: tensor.storage.count * kind.itemsize].view(kind)
        strides = [stride * kind.itemsize for stride in tensor.strides]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, kind)
        return np.ascontiguousarray(
            np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
        ).reshape(tensor.shape)

    return read


Places = Mapping[str, tuple[int, int]]
"""Key of a storage -> where its bytes begin in the file, and how many there are."""


def _of_archive(file: BinaryIO) -> tuple[Any, Places]:
    """A zip archive: data.pkl, and a file for each storage, neither of them compressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused(f"{len(pickles)} files data.pkl in the archive")
        folder = pickles[0].removesuffix("data.pkl")
        wanted = [name for name in entries if name.startswith(folder + "data/") or name in pickles]
        if any(entries[name].compress_type != zipfile.ZIP_STORED for name in wanted):
            raise Refused("a compressed archive, which PyTorch does not write")
        places = {name: _place(file, entries[name]) for name in wanted}
        order = folder + "byteorder"
        if order in entries:
            file.seek(_place(file, entries[order])[0])
            if file.read(6) != b"little":
                raise Refused("numbers in another byte order")
        file.seek(places[pickles[0]][0])
        found = tensor_pickle.load(file)
    return found, {name.removeprefix(folder + "data/"): place for name, place in places.items()}


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a stored entry lie: behind its own header, whose lengths are its own, too."""
    file.seek(entry.header_offset)
    signature, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"no header before {entry.filename}")
    return entry.header_offset + _LOCAL.size + name + extra, entry.file_size


def _of_stream(file: BinaryIO) -> tuple[Any, Places]:
    """The older format: four pickles (a number, a version, sizes of types, the tensors), one of the keys of the
    storages, and the storages in that order, each behind its count."""
    file.seek(0)
    magic, version, system, found = (tensor_pickle.load(file) for _ in range(4))  # type: ignore[arg-type]
    if magic != _MAGIC or version != _VERSION:
        raise Refused("no file of PyTorch")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("numbers in another byte order")
    keys = tensor_pickle.load(file)
    storages = {value.storage.key: value.storage for value in _named(found).values()}
    places: dict[str, tuple[int, int]] = {}
    start = file.tell()
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in storages:
            raise Refused("a storage that no tensor has")
        file.seek(start)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * _kind(storages[key]).itemsize
        if count < 0:
            raise ValueError("a storage of less than no numbers")
        places[key] = start + 8, size
        start += 8 + size
    return found, places
