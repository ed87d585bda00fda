"""The decoder process: answers calls, see `suite.runtime.decoders`."""

import json
import math
import os
import pickle
import resource
import socket
import struct
from typing import Any

import numpy as np

from suite.runtime import child, decoders


def main(descriptor: int) -> None:
    """Answers calls until the connection is closed.

    Args:
        descriptor: of the connection to the process that asks.
    """
    child.limit(resource.RLIMIT_AS, decoders.MEMORY)
    child.limit(resource.RLIMIT_CORE, 0)
    decoders.become_decoder()
    with socket.socket(fileno=descriptor) as connection:
        try:
            while head := connection.recv(8, socket.MSG_WAITALL):
                (length,) = struct.unpack("<Q", head)
                _answer(connection, _received(connection, length))
        except OSError:
            return  # the process that asks has ended
        except Exception:
            os._exit(decoders.ENDED)


def _received(connection: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while len(view):
        count = connection.recv_into(view)
        if not count:
            raise OSError
        view = view[count:]
    return data


def _answer(connection: socket.socket, request: bytearray) -> None:
    function, args, kwargs, seconds, folder = pickle.loads(request)  # imports what it needs, which is not on the clock
    _set_clock(seconds)
    arrays: list[np.ndarray] = []
    try:
        if os.getcwd() != folder:
            os.chdir(folder)
        value, raised = decoders.packed(function(*args, **kwargs), arrays), False
    except MemoryError:
        value, raised = ["", "", "", {"dict": {}}], True
    except BaseException as error:  # of Rust's panics, too
        module, name, text, fields = decoders.error_fields(error)
        if module.partition(".")[0] != "suite":
            module, text = "", f"{name}: {text}"[:200]
        value, raised = [module, name, text, {"dict": fields}], True
    about: dict[str, Any] = {"value": value, "raised": raised}
    about["arrays"] = [(array.dtype.str, array.shape) for array in arrays]
    head = json.dumps(about).encode()
    connection.sendall(struct.pack("<Q", len(head)) + head)
    for array in arrays:
        connection.sendall(array.reshape(-1).view(np.uint8).data)


def _set_clock(seconds: float) -> None:
    """The system ends this process where the next call takes more processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    child.limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime + seconds))
