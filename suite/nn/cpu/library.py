"""The oneDNN library of this machine: its place, or why it is not used."""

import ctypes
import importlib.metadata
import os
import platform
import sys
from ctypes import POINTER, Structure, c_char_p, c_int, c_uint
from functools import cache
from typing import Any, NamedTuple

import jaxlib

from suite.distribution import install
from suite.nn.cpu import native

FILE, PACKAGE = "libdnnl.so.3", "onednn-cpu-gomp"
_THREADS = (2, 4)
"""Runtimes that need no more than the library: OpenMP and TBB."""


class Unused(NamedTuple):
    """Why the library is not used.

    Attributes:
        reason: a clause, such as ``"it is not installed"``.
        fix: what to type; empty where there is nothing to be done.
    """

    reason: str
    fix: str = ""


class _Version(Structure):
    _fields_ = [
        ("major", c_int),
        ("minor", c_int),
        ("patch", c_int),
        ("hash", c_char_p),
        ("cpu_runtime", c_uint),
        ("gpu_runtime", c_uint),
    ]


def find() -> Any:
    """The library, or why it is not used, as `Unused`."""
    if os.environ.get("SUITE_ONEDNN") == "off":
        return Unused("SUITE_ONEDNN=off leaves it out", "unset SUITE_ONEDNN")
    if sys.platform != "linux":
        return Unused(f"it is used on Linux only, and this is {sys.platform}")
    if not native.known():
        version = ".".join(map(str, native.version())) or "an unknown version"
        oldest, newest = (".".join(map(str, pick(native.KNOWN))) for pick in (min, max))
        return Unused(
            f"XLA's foreign-function interface in jaxlib {jaxlib.__version__} is {version}; "
            f"supported: {oldest} to {newest}",
            "pip install -c constraints.txt jax jaxlib",
        )
    return _loaded()


def version(library: Any) -> str:
    """Of the library, such as ``"3.2.0"``."""
    numbers = library.dnnl_version().contents
    return f"{numbers.major}.{numbers.minor}.{numbers.patch}"


@cache
def _loaded() -> Any:
    faults = []
    for place in (os.path.join(sys.prefix, "lib", FILE), FILE):
        try:
            library: Any = ctypes.PyDLL(place)
            # Only while a convolution runs is Python's lock let go of: to get it back may take milliseconds each time.
            library.execute = ctypes.CDLL(place).dnnl_primitive_execute
        except OSError as error:
            if not str(error).startswith(f"{place}: cannot open"):  # which says that there is none
                faults.append(f"{place} cannot be loaded: {error}")
            continue
        library.dnnl_version.restype = POINTER(_Version)
        if library.dnnl_version().contents.cpu_runtime in _THREADS:
            return library
        faults.append(f"{place} is built for other threads than OpenMP's and TBB's")
    return Unused(faults[0]) if faults else _absent()


def _absent() -> Unused:
    try:
        importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        if platform.machine() == "x86_64":
            return Unused("it is not installed", install("cpu"))
        return Unused(f"it is not installed, and pip has none for {platform.machine()}", "apt install libdnnl3")
    place = os.path.join(sys.prefix, "lib")
    return Unused(
        f"{PACKAGE} is installed, but {FILE} is not in {place}", f"pip install --force-reinstall --no-deps {PACKAGE}"
    )
