"""Tensors of the Open Inference Protocol, in JSON and in its binary extension.

Binary tensors stand behind the JSON of a body, in the order in which it names them: little-endian, row by row; an
element of BYTES is its length as an unsigned integer of 32 bits and then its content. The format is that of the KServe
documents "Open Inference Protocol" and "Binary Tensor Data Extension".
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.contracts.signature import File
from suite.contracts.values import json_type
from suite.errors import closest
from suite.serving.errors import Refused
from suite.serving.json_body import VALUES

BYTES = "BYTES"
"""Datatype of texts, files and JSON."""
NUMBERS: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatypes whose elements have one size each."""
SIZE = "binary_data_size"
"""Parameter of a tensor that is binary: its bytes."""
AXES = 8
"""Most axes of a tensor."""
_FIELDS = {"name", "shape", "datatype", "parameters", "data"}
_LENGTH = np.dtype("<u4")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request.

    Attributes:
        name: of the input.
        datatype: BYTES, or one of NUMBERS.
        shape: the first axis counts the records.
        values: its elements, row by row: numbers, booleans, strings of JSON, or bytes; None where JSON says null.
        binary: whether it stood behind the JSON.
        parameters: what else is said of it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


def tensors(items: Sequence[Any], behind: memoryview) -> list[Tensor]:
    """The tensors of a request.

    Args:
        items: the list ``inputs`` of its JSON.
        behind: what stands behind the JSON.

    Raises:
        Refused: a tensor is malformed, occurs twice, or its shape, its datatype and its data are at odds.
    """
    found: dict[str, Tensor] = {}
    for place, item in enumerate(items):
        tensor, behind = _tensor(item, f"tensor {place}", behind)
        if tensor.name in found:
            raise Refused(400, "duplicate_key", "occurs twice.", field=_named(tensor.name))
        found[tensor.name] = tensor
    if behind.nbytes:
        message = f"{behind.nbytes:,} bytes stand behind the last tensor."
        raise Refused(400, "uneven", message, fix=f"{SIZE} of each tensor, and Inference-Header-Content-Length")
    return list(found.values())


def _tensor(item: Any, where: str, behind: memoryview) -> tuple[Tensor, memoryview]:
    """A tensor, and what stands behind it."""
    fix = '{"name": "...", "shape": [1], "datatype": "BYTES", "data": ["..."]}'
    if not isinstance(item, dict):
        raise Refused(400, "wrong_type", f"must be an object, not {json_type(item)}.", field=where, fix=fix)
    name = item.get("name")
    if not isinstance(name, str):
        raise Refused(400, "missing", "has no name that is a string.", field=where, fix=fix)
    where = _named(name)
    if unknown := sorted(item.keys() - _FIELDS):
        raise Refused(400, "unknown", f'"{unknown[0]:.100}" is not understood.', field=where, fix=fix)
    datatype = item.get("datatype")
    if not isinstance(datatype, str) or (datatype != BYTES and datatype not in NUMBERS):
        near = closest(str(datatype)[:20], [BYTES, *NUMBERS]) or ", ".join([BYTES, *NUMBERS])
        raise Refused(400, "unknown_datatype", f'has the datatype "{datatype!s:.100}".', field=where, fix=near)
    shape = _shape(item.get("shape"), where)
    parameters = parameters_of(item.get("parameters"), where)
    if SIZE in parameters:
        if item.get("data") is not None:
            raise Refused(400, "uneven", f"has both data and {SIZE}.", field=where, fix="one of them")
        content, behind = _cut(behind, parameters[SIZE], where)
        return Tensor(name, datatype, shape, _unpacked(content, datatype, shape, where), True, parameters), behind
    data = item.get("data")
    if not isinstance(data, list):
        raise Refused(400, "wrong_type", f"data must be a list, not {json_type(data)}.", field=where, fix=fix)
    values = _flat(data, shape, where)
    return Tensor(name, datatype, shape, _typed(values, datatype, where), False, parameters), behind


def parameters_of(value: Any, where: str) -> dict[str, Any]:
    """The object ``parameters`` of a request or of a part of it, without those that are null; empty: there is none.

    Raises:
        Refused: it is no object of strings, numbers and booleans, or says that data stand in memory that is shared.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, "wrong_type", f"parameters must be an object, not {json_type(value)}.", field=where)
    if shared := next((name for name in value if name.startswith("shared_memory")), None):
        message = f"{shared:.100}: memory is not shared with clients."
        raise Refused(400, "unsupported", message, field=where, fix="send the data")
    for name, item in value.items():
        if isinstance(item, list | dict):
            message = f"parameter {name:.100} must be a string, a number or a boolean, not {json_type(item)}."
            raise Refused(400, "wrong_type", message, field=where)
    return {name: item for name, item in value.items() if item is not None}


def _shape(value: Any, where: str) -> tuple[int, ...]:
    fix = "[1] for one record"
    right = isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
    if not right or not 0 < len(value) <= AXES:
        message = f"its shape must be a list of one to {AXES} sizes, the first one that of the records."
        raise Refused(400, "invalid_shape", message, field=where, fix=fix)
    if math.prod(value) > VALUES:
        message = f"its shape has more than {VALUES:,} elements."
        raise Refused(413, "too_many_values", message, field=where, fix="send fewer records a request")
    if not math.prod(value):
        raise Refused(400, "empty", "has no element.", field=where, fix=fix)
    return tuple(value)


def _cut(behind: memoryview, size: Any, where: str) -> tuple[memoryview, memoryview]:
    if type(size) is not int or not 0 <= size <= behind.nbytes:
        message = f"its {SIZE} is {size!s:.20}, and {behind.nbytes:,} bytes are left behind the JSON."
        raise Refused(400, "uneven", message, field=where, fix="Inference-Header-Content-Length: bytes of the JSON")
    return behind[:size], behind[size:]


def _unpacked(content: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> list[Any]:
    """Elements of a binary tensor."""
    count = math.prod(shape)
    if datatype == BYTES:
        return _elements(content, count, where)
    dtype = np.dtype(NUMBERS[datatype]).newbyteorder("<")
    if content.nbytes != count * dtype.itemsize:
        message = f"has {content.nbytes:,} bytes, and its shape and datatype {count * dtype.itemsize:,}."
        raise Refused(400, "uneven", message, field=where)
    raw = np.frombuffer(content, np.uint8) != 0 if datatype == "BOOL" else np.frombuffer(content, dtype)
    values: list[Any] = raw.tolist()
    return values


def _elements(content: memoryview, count: int, where: str) -> list[bytes]:
    values: list[bytes] = []
    begin = 0
    while begin < content.nbytes and len(values) < count:
        length = int.from_bytes(content[begin : begin + 4], "little")
        begin += 4 + length
        values.append(bytes(content[begin - length : begin]))
    if len(values) != count or begin != content.nbytes:
        message = f"its {content.nbytes:,} bytes are not {count:,} elements, each with its length before it."
        raise Refused(400, "uneven", message, field=where)
    return values


def _flat(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    """Elements of data that are flat, or nested as the shape says."""
    level, sizes = data, list(shape)
    while len(sizes) > 1 and len(level) == sizes[0] and all(isinstance(part, list) for part in level):
        first, second, *others = sizes
        if any(len(part) != second for part in level):
            break
        level, sizes = [value for part in level for value in part], [first * second, *others]
    if len(level) != math.prod(shape) or any(isinstance(value, list) for value in level):
        message = f"its data are not the {math.prod(shape):,} elements of its shape."
        raise Refused(400, "uneven", message, field=where)
    return level


def _typed(values: list[Any], datatype: str, where: str) -> list[Any]:
    """Elements of JSON as the datatype holds them."""
    allowed: tuple[type, ...] = (int, float) if datatype.startswith("FP") else (int,)
    allowed = {BYTES: (str,), "BOOL": (bool,)}.get(datatype, allowed)
    for value in values:
        if value is not None and type(value) not in allowed:
            shown = f"{value!r:.50}" if isinstance(value, float) else json_type(value)
            raise Refused(400, "wrong_type", f"is of {datatype}, and holds {shown}.", field=where)
    if datatype in (BYTES, "BOOL", "FP64"):
        return values
    try:
        with np.errstate(over="ignore"):
            held = np.array([0 if value is None else value for value in values], NUMBERS[datatype]).tolist()
    except OverflowError:
        raise Refused(400, "number_too_large", f"holds a number that is none of {datatype}.", field=where) from None
    return [None if value is None else number for value, number in zip(values, held, strict=True)]


def _named(name: str) -> str:
    return f'tensor "{name:.100}"'


def packed(values: Sequence[Any], datatype: str) -> bytes:
    """Elements as a binary tensor holds them: files, strings, or numbers.

    Raises:
        ValueError: a number is not finite.
    """
    if datatype != BYTES:
        array = np.array(values, np.dtype(NUMBERS[datatype]).newbyteorder("<"))
        if not np.isfinite(array).all():
            raise ValueError("a number is not finite")
        return array.tobytes()
    contents = [value.data if isinstance(value, File) else value.encode("utf-8", "replace") for value in values]
    return b"".join(np.array(len(content), _LENGTH).tobytes() + content for content in contents)


def plain(values: Sequence[Any]) -> list[Any]:
    """Elements as JSON holds them: files in base64."""
    return [base64.b64encode(value.data).decode("ascii") if isinstance(value, File) else value for value in values]
