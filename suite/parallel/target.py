"""Devices that programs are made for: those of this process, or described ones, which only a compiler knows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

_DESCRIBED: ContextVar[tuple[Any, ...]] = ContextVar("described", default=())


@contextmanager
def compiling_for(described: Sequence[Any]) -> Iterator[None]:
    """Meshes made inside are of the ``described`` devices: programs over them compile, and run nowhere."""
    token = _DESCRIBED.set(tuple(described))
    try:
        yield
    finally:
        _DESCRIBED.reset(token)


def devices() -> list[Any]:
    """All devices that a mesh may have, of all processes."""
    return list(_DESCRIBED.get()) or jax.devices()


def is_described() -> bool:
    """Whether these devices are not here."""
    return bool(_DESCRIBED.get())


def platform_of(device: Any) -> str:
    """``"cpu"``, ``"tpu"``, ``"cuda"`` or ``"rocm"``, as programs and `jax.lax.platform_dependent` know a device."""
    if device.platform != "gpu":
        return str(device.platform)
    return "rocm" if "rocm" in device.client.platform_version.lower() else "cuda"
