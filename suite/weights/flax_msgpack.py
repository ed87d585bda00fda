"""``flax_model.msgpack``: weights of the Flax models that Transformers had before version 5, under PyTorch's names.

Nested dicts of arrays in MessagePack, whose extension type 1 is an array (shape, name of a dtype, bytes). Nothing in
such a file is code. Names and layouts are turned into those of the same model in PyTorch, which the IMPORTS tables
know.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

WEIGHTS, INDEX = "flax_model.msgpack", "flax_model.msgpack.index.json"
_ARRAY = 1
_CHUNKED = "__msgpack_chunked_array__"
_KINDS = {
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_STATISTICS = {"mean": "running_mean", "var": "running_var"}
_COLLECTIONS = ("params", "batch_stats")
_TRANSPOSED = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}
"""Axes of a kernel (inputs, outputs), (k, i, o) or (h, w, i, o) in the order of PyTorch's, by their number."""


def tensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Readers of the tensors in a file, by their names in PyTorch.

    Raises:
        ValueError: the file is cut short, or holds something else than arrays by name.
        msgpack.exceptions.UnpackException: it is no MessagePack.
    """
    import msgpack

    tree = msgpack.unpackb(path.read_bytes(), ext_hook=_extension, raw=False)
    if not isinstance(tree, dict):
        raise ValueError(f"a {type(tree).__name__}, not arrays by name")
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for parts, array in _leaves(tree, ()):
        name = torch_name(parts)
        if name in readers:
            raise ValueError(f"two arrays for {name}")
        readers[name] = _reader(array, parts[-1] == "kernel")
    return readers


def torch_name(parts: tuple[str, ...]) -> str:
    """PyTorch's name of the array at a path of Flax: ``("bert", "pooler", "dense", "kernel")``."""
    statistics = parts[0] == "batch_stats"
    *modules, leaf = parts[1:] if parts[0] in _COLLECTIONS and len(parts) > 1 else parts
    return ".".join([*modules, (_STATISTICS if statistics else _LEAVES).get(leaf, leaf)])


def _reader(array: np.ndarray, kernel: bool) -> Callable[[], np.ndarray]:
    axes = _TRANSPOSED.get(array.ndim) if kernel else None
    return lambda: array if axes is None else array.transpose(axes)


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """(path, array) of each leaf; a name may hold several steps of a path with slashes between."""
    for name, value in tree.items():
        path = (*above, *str(name).split("/"))
        if isinstance(value, dict) and _CHUNKED in value:
            yield path, _joined(value)
        elif isinstance(value, dict):
            yield from _leaves(value, path)
        elif isinstance(value, np.ndarray):
            yield path, value
        else:
            raise ValueError(f"{'/'.join(path)} is a {type(value).__name__}, not an array")


def _joined(value: Mapping[str, Any]) -> np.ndarray:
    """An array of more than 1 GiB, which is stored in flat pieces."""
    shape, chunks = ([part[str(i)] for i in range(len(part))] for part in (value["shape"], value["chunks"]))
    return np.concatenate(chunks).reshape(shape)


def _extension(code: int, data: bytes) -> np.ndarray:
    """The array in an extension; scalars and complex numbers, which no weights are, are refused."""
    import msgpack

    if code != _ARRAY:
        raise ValueError(f"an extension of type {code}, not an array")
    shape, kind, values = msgpack.unpackb(data, raw=True)
    name = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
    sizes = all(isinstance(size, int) and size >= 0 for size in shape)
    if name not in _KINDS or not sizes or not isinstance(values, bytes):
        raise ValueError(f"an array of {name!r} {shape!r}")
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array {name} {list(shape)} in {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape)
