"""Devices that programs are made for: those of this process, or described ones, which only a compiler knows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

_DESCRIBED: ContextVar[tuple[Any, ...]] = ContextVar("described", default=())
_CUDNN: ContextVar[bool] = ContextVar("cudnn", default=True)


@contextmanager
def compiling_for(described: Sequence[Any], cudnn: bool = True) -> Iterator[None]:
    """Meshes made inside are of the ``described`` devices: programs over them compile, and run nowhere.

    Args:
        described: of `suite.planning.compilers.devices`; none: those of this process.
        cudnn: where they are GPUs, whether cuDNN is here, which compiles its own operations.
    """
    token, cudnn_token = _DESCRIBED.set(tuple(described)), _CUDNN.set(cudnn)
    try:
        yield
    finally:
        _DESCRIBED.reset(token)
        _CUDNN.reset(cudnn_token)


def devices() -> list[Any]:
    """All devices that a mesh may have, of all processes."""
    return list(_DESCRIBED.get()) or jax.devices()


def is_described() -> bool:
    """Whether these devices are not here."""
    return bool(_DESCRIBED.get())


def has_cudnn() -> bool:
    """Whether programs for these devices may hold cuDNN's operations, where they are NVIDIA's."""
    return _CUDNN.get()


def platform_of(device: Any) -> str:
    """``"cpu"``, ``"tpu"``, ``"cuda"`` or ``"rocm"``, as programs and `jax.lax.platform_dependent` know a device."""
    if device.platform != "gpu":
        return str(device.platform)
    return "rocm" if "rocm" in device.client.platform_version.lower() else "cuda"
