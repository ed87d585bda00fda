"""The switch between a layer's plain form and the one for a CPU: nothing else decides it.

With ``SUITE_CPU_FORMS=off`` in the environment every layer has its plain form on every platform, and oneDNN is not
called. It is read when a program is traced; one traced before stays as it is.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jaxtyping import Array

from suite.nn.cpu import onednn
from suite.parallel.layout import only_here, target_platform


def enabled() -> bool:
    """Whether layers may have forms of their own on a CPU."""
    return os.environ.get("SUITE_CPU_FORMS") != "off"


def by_platform(*operands: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """``cpu`` of the operands in a program for a CPU, elsewhere ``default``; both return arrays of the same shapes."""
    if not enabled():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def by_target(*operands: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """`by_platform`, which traces one of the two where the program is for one platform alone."""
    platform = target_platform()
    if platform is None or not enabled():
        return by_platform(*operands, cpu=cpu, default=default)
    return (cpu if platform == "cpu" else default)(*operands)


def recomputed(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of arrays, of which the backward pass keeps the operands alone where the program is for an
    accelerator: memory bounds it there, and a scan over layers would keep each value inside. A processor has less to
    gain, and keeps them.
    """
    return function if target_platform() in (None, "cpu") else jax.checkpoint(function, prevent_cse=False)


def by_library(
    x: Array,
    kernel: Array,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    compute: str = "float32",
    result: str = "float32",
) -> bool:
    """Whether oneDNN computes this `suite.nn.conv.conv2d` on a CPU: it can, and the program is for this process's one
    device alone.
    """
    return enabled() and only_here() and onednn.convolves(x, kernel, stride, padding, groups, compute, result)
