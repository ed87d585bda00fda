"""Functions of C libraries as operations of XLA on a CPU, without a compiler.

XLA calls the handler of a custom call with a frame: addresses, formats and shapes of the buffers, and attributes. Here
the handler is Python, which reads the frame by `ctypes` and hands the addresses on; while the library works, Python's
lock is free. The structures are those of XLA's C interface, ``xla/ffi/api/c_api.h``, which jaxlib ships; with a
version of it that is not among `KNOWN` nothing here is used (`known`).
"""

import ctypes
import re
import threading
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

KNOWN = ((0, 3), (0, 4), (0, 5))
"""Versions of the interface that have the structures below: of jaxlib 0.10 and 0.11.0, of 0.11.2, and of 0.12. A later
one is read before it is added: to a handler of a version that it doesn't support, XLA refuses the whole processor."""
_FORMATS = {11: "float32", 16: "bfloat16"}
_METADATA = 1
"""The extension of a frame by which XLA asks what a handler is, before it calls it."""
_INTERNAL = 13
"""Error code of a handler in XLA."""


class Buffer(NamedTuple):
    """An array of an operation.

    Attributes:
        address: of its first byte, rows first.
        format: ``"float32"`` or ``"bfloat16"``.
        shape: sizes.
    """

    address: int
    format: str
    shape: tuple[int, ...]


Handler = Callable[[Sequence[Buffer], Buffer, tuple[int, ...]], None]
"""(operands, result, numbers): computes what is at the result's address."""


class _Buffer(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("format", c_int),
        ("data", c_void_p),
        ("rank", c_int64),
        ("dims", POINTER(c_int64)),
    ]


class _Buffers(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("size", c_int64),
        ("types", c_void_p),
        ("items", POINTER(POINTER(_Buffer))),
    ]


class _Numbers(Structure):
    _fields_ = [("format", c_int), ("size", c_size_t), ("data", POINTER(c_int64))]


class _Attributes(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("size", c_int64),
        ("types", c_void_p),
        ("names", c_void_p),
        ("items", POINTER(POINTER(_Numbers))),
    ]


class _Version(Structure):
    _fields_ = [("struct_size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int)]


class _Metadata(Structure):
    _fields_ = [("struct_size", c_size_t), ("version", _Version), ("traits", c_uint32)]  # its beginning


class _Extension(Structure):
    _fields_ = [("struct_size", c_size_t), ("type", c_int), ("next", c_void_p), ("metadata", POINTER(_Metadata))]


class _Error(Structure):
    _fields_ = [("struct_size", c_size_t), ("extension", c_void_p), ("message", c_char_p), ("code", c_int)]


_make_error = ctypes.CFUNCTYPE(c_void_p, POINTER(_Error))


class _Interface(Structure):  # its beginning; other functions follow
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("version", _Version),
        ("internal", c_void_p),
        ("make_error", _make_error),
    ]


class _Frame(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", POINTER(_Extension)),
        ("interface", POINTER(_Interface)),
        ("context", c_void_p),
        ("stage", c_int),
        ("operands", _Buffers),
        ("results", _Buffers),
        ("attributes", _Attributes),
    ]


_SIZES = {
    "operands": ctypes.sizeof(_Buffers),
    "results": ctypes.sizeof(_Buffers),
    "attributes": ctypes.sizeof(_Attributes),
}
"""Of the structures that lie within a frame: one of another size would move what comes after it."""
_as_handler = ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))
_thread = threading.local()
_registered: list[Any] = []
"""Handlers, which must live as long as the process: XLA may call them at any time."""


@cache
def version() -> tuple[int, ...]:
    """Of this jaxlib's interface, major and minor; empty where jaxlib doesn't say."""
    try:
        text = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    except OSError:
        return ()
    matches = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    return tuple(int(match[1]) for match in matches if match)


def known() -> bool:
    """Whether this jaxlib calls handlers as they are written here."""
    return version() in KNOWN


def register(name: str, handler: Handler) -> None:
    """Let programs for a CPU call ``handler`` by ``name``. What it raises ends the program with that message."""

    def answer(pointer: Any) -> int | None:
        frame = pointer.contents
        if frame.extension and frame.extension.contents.type == _METADATA:
            told = frame.extension.contents.metadata.contents
            told.version.major, told.version.minor = version()
            told.traits = 0
            return None
        try:
            _stay()
            _check(frame)
            numbers = frame.attributes.items[0].contents
            operands = [_read(frame.operands.items[n].contents) for n in range(frame.operands.size)]
            handler(operands, _read(frame.results.items[0].contents), tuple(numbers.data[: numbers.size]))
        except Exception as error:  # of the library: XLA must be told, or it takes what lies there for a result
            message = f"{name}: {error}".encode()
            told = _Error(ctypes.sizeof(_Error), None, message, _INTERNAL)
            return frame.interface.contents.make_error(ctypes.byref(told))
        return None

    called = _as_handler(answer)
    _registered.append(called)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.cast(called, c_void_p).value), platform="cpu")


def _stay() -> None:
    """Keep Python's state of this thread, which would otherwise be made anew for each call: some pages of memory that
    the system gives and takes, for which all cores wait."""
    if not getattr(_thread, "stays", False):
        ctypes.pythonapi.PyGILState_Ensure()
        _thread.stays = True


def _check(frame: Any) -> None:
    """Refuse structures of other sizes than those that are read here; each carries its own."""
    sizes = {name: getattr(frame, name).struct_size for name in _SIZES}
    if sizes != _SIZES or frame.struct_size < ctypes.sizeof(_Frame):
        raise RuntimeError(
            f"XLA's structures have sizes {frame.struct_size}, {sizes}; known are {ctypes.sizeof(_Frame)}, {_SIZES}. "
            "SUITE_ONEDNN=off does without them"
        )


def _read(buffer: Any) -> Buffer:
    return Buffer(buffer.data, _FORMATS[buffer.format], tuple(buffer.dims[: buffer.rank]))


def call(name: str, result: jax.ShapeDtypeStruct, *operands: Array, numbers: Sequence[int]) -> Array:
    """The operation registered as ``name``."""
    returned: Array = jax.ffi.ffi_call(name, result, vmap_method="sequential")(
        *operands, numbers=np.asarray(numbers, np.int64)
    )
    return returned
