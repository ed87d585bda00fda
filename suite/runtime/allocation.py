"""A setting of the C library without which a CPU spends a third of a step on page faults."""

import ctypes
import os
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt(3)."""


def keep_memory(early: bool = False) -> bool:
    """Make the C library keep the memory it is given back. True where it acts.

    On a CPU, XLA allocates a step's temporaries anew on each call. glibc takes such big blocks from the system and
    returns them afterwards, so each step faults all of their pages in again. Acts on Linux with glibc, where JAX
    computes on the CPU; elsewhere it does nothing.

    Call it before anything asks JAX for a device. Threads that have started keep arenas of their own, which the setting
    doesn't reach; a thread that starts later may be given one of these, too. The fewer threads there are, the better.

    Args:
        early: do nothing where only a started backend tells what JAX computes on.
    """
    if sys.platform != "linux" or not _on_cpu(early):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1))
    return all([libc.mallopt(name, value) == 1 for name, value in settings])


def _on_cpu(early: bool) -> bool:
    """Whether JAX will compute on the CPU, without starting JAX's backend where that can be told."""
    loaded = sys.modules.get("jax")
    platforms = loaded.config.jax_platforms if loaded else os.environ.get("JAX_PLATFORMS")
    if platforms:
        return bool(platforms.split(",")[0] == "cpu")
    if not _plugins():
        return True
    if early:
        return False
    import jax

    return jax.default_backend() == "cpu"


@cache
def _plugins() -> bool:
    """Whether JAX has backends besides its own."""
    return bool(find_spec("jax_plugins") or find_spec("libtpu") or any(entry_points(group="jax_plugins")))
