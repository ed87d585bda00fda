"""Messages between a process and its decoder processes: requests that are pickled, and answers that never are."""

import json
import math
import socket
import struct
import sys
import time
from typing import Any

import numpy as np

ANSWER = 1 << 30
"""Most bytes of an answer."""


def ask(connection: socket.socket, request: bytes, until: float) -> Any:
    """The answer to a request.

    Args:
        connection: to the decoder process.
        request: as it reads it.
        until: on the monotonic clock, when the time is over.

    Raises:
        EOFError: it has ended, or sends what no decoder does.
        TimeoutError: not in time.
        Raised, Failed: what became of the call there.
    """
    _write(connection, struct.pack("<Q", len(request)), until)
    _write(connection, request, until)
    (length,) = struct.unpack("<Q", _read(connection, 8, until))
    head = json.loads(_read(connection, _bounded(length), until))
    arrays = [_array(connection, dtype, shape, until) for dtype, shape in head["arrays"]]
    value = _unpacked(head["value"], arrays)
    if head["raised"]:
        raise _error(*value)
    return value


def _write(connection: socket.socket, data: bytes, until: float) -> None:
    _set_clock(connection, until)
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        raise EOFError from None


def _read(connection: socket.socket, count: int, until: float) -> bytearray:
    data = bytearray(count)
    _fill(connection, memoryview(data), until)
    return data


def _array(connection: socket.socket, dtype: str, shape: list[int], until: float) -> np.ndarray:
    parsed = np.dtype(dtype)
    if parsed.kind not in "biuf" or any(size < 0 for size in shape):
        raise EOFError
    _bounded(math.prod(shape) * parsed.itemsize)
    array = np.empty(shape, parsed)
    _fill(connection, memoryview(array.reshape(-1).view(np.uint8).data), until)
    return array


def _fill(connection: socket.socket, view: memoryview, until: float) -> None:
    while len(view):
        _set_clock(connection, until)
        try:
            count = connection.recv_into(view)
        except ConnectionResetError:
            count = 0
        if not count:
            raise EOFError
        view = view[count:]


def _set_clock(connection: socket.socket, until: float) -> None:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(None if left == math.inf else left)


def _bounded(length: int) -> int:
    if length > ANSWER:
        raise EOFError
    return length


def requested(connection: socket.socket) -> bytearray | None:
    """The next request, in the decoder process; None where the one that asks has closed the connection.

    Raises:
        OSError: it has ended.
    """
    head = connection.recv(8, socket.MSG_WAITALL)
    if not head:
        return None
    (length,) = struct.unpack("<Q", head)
    data = bytearray(length)
    view = memoryview(data)
    while len(view):
        count = connection.recv_into(view)
        if not count:
            raise OSError
        view = view[count:]
    return data


def answer(connection: socket.socket, value: Any, raised: bool, arrays: list[np.ndarray]) -> None:
    """Sends an answer, from the decoder process.

    Args:
        connection: to the process that asked.
        value: packed; of an error, what `error_fields` says of it, packed.
        raised: whether it is an error.
        arrays: that the value names.
    """
    about = {"value": value, "raised": raised, "arrays": [(array.dtype.str, array.shape) for array in arrays]}
    head = json.dumps(about).encode()
    connection.sendall(struct.pack("<Q", len(head)) + head)
    for array in arrays:
        connection.sendall(array.reshape(-1).view(np.uint8).data)


class Failed(Exception):
    """The decoder failed at the file.

    Args:
        text: how; empty where it ran out of memory.
    """

    def __init__(self, text: str):
        self.text = text


class Raised(Exception):
    """An error of the suite's that the function raised; the decoder is well."""

    def __init__(self, error: Exception):
        self.error = error


def packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value as JSON; its arrays are added to ``arrays``, and stand in it by their place there."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple):
        return {"tuple": [packed(item, arrays) for item in value]}
    if isinstance(value, list):
        return [packed(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: packed(item, arrays) for key, item in value.items()}}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unpacked(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple(_unpacked(item, arrays) for item in content)
    return {key: _unpacked(item, arrays) for key, item in content.items()}


def error_fields(error: BaseException) -> tuple[str, str, str, dict[str, Any]]:
    """Module, name, text and fields of one of the suite's errors."""
    fields = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float)}
    return type(error).__module__, type(error).__qualname__, str(error), fields


def _error(module: str, name: str, text: str, fields: dict[str, Any]) -> Exception:
    """The error that `error_fields` was made of: of a class of the suite's that this process knows."""
    if not module:
        return Failed(str(text))
    known = getattr(sys.modules.get(module), name, None) if module.partition(".")[0] == "suite" else None
    if not (isinstance(known, type) and issubclass(known, Exception)):
        return ValueError(name)
    error = known.__new__(known, text)
    vars(error).update({str(key): value for key, value in fields.items()})
    return Raised(error)
