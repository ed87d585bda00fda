"""Models in ONNX, looked through before an engine reads them: only the standard's own operators, and all of it inside.

The file is a message of protocol buffers. What could lead elsewhere stands in a few of its fields, which are found
without a parser of the format: numbers in files beside it, operators of other libraries, functions of its own.
"""

from collections.abc import Iterator
from typing import Any

from suite.bundles.manifest import AGAIN
from suite.errors import InputError

DOMAINS = (b"", b"ai.onnx")
"""Of the standard's operators."""
MOST_DEPTH = 16
"""Graphs within graphs."""
# Fields, by message: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check(content: bytes, where: str) -> None:
    """Raises InputError: it is no model in ONNX, or one that needs more than itself and an engine."""
    try:
        graphs = 0
        for field, value in _fields(memoryview(content)):
            if field == _MODEL_GRAPH:
                graphs += 1
                _graph(value, 0)
            elif field in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
                raise _Strange("functions of its own")
        if graphs != 1:
            raise ValueError(f"{graphs} graphs")
    except _Strange as error:
        problem = "needs what a bundle may not have."
        raise InputError(where, problem, found=str(error), fix="a bundle from a source that you trust") from None
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(where, "is no model in ONNX.", found=str(error), fix=AGAIN) from None


class _Strange(Exception):
    """What a model may not have."""


def _graph(message: Any, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise _Strange(f"graphs within graphs, more than {MOST_DEPTH}")
    for field, value in _fields(message):
        if field == _GRAPH_TENSOR:
            _tensor(value)
        elif field == _GRAPH_SPARSE:
            raise _Strange("sparse tensors")
        elif field == _GRAPH_NODE:
            _node(value, depth)


def _node(message: Any, depth: int) -> None:
    for field, value in _fields(message):
        if field == _NODE_DOMAIN and bytes(value) not in DOMAINS:
            raise _Strange(f"operators of {bytes(value)[:60].decode('utf-8', 'replace')}")
        if field == _NODE_ATTRIBUTE:
            for part, inside in _fields(value):
                if part in _ATTRIBUTE_TENSORS:
                    _tensor(inside)
                elif part in _ATTRIBUTE_GRAPHS:
                    _graph(inside, depth + 1)
                elif part in _ATTRIBUTE_SPARSE:
                    raise _Strange("sparse tensors")


def _tensor(message: Any) -> None:
    for field, value in _fields(message):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value):
            raise _Strange("numbers in files beside it")


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: bytes of those that have a length, a number of the others."""
    if not isinstance(message, memoryview):
        raise ValueError("a number where a message should be")
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _number(message, place)
            yield field, value
            continue
        if kind == 2:
            size, place = _number(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + size > len(message):
            raise ValueError("it ends within a field")
        yield field, message[place : place + size]
        place += size


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value, shift = 0, 0
    while True:
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if not byte & 128:
            return value, place
