"""Children: what every process that the suite starts from a command line is given, and how it ends with its parent."""

import ctypes
import os
import resource
import signal
import sys

_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def import_path() -> str:
    """PYTHONPATH of a child that finds the packages which this process finds, from wherever it is started."""
    return os.pathsep.join(os.path.abspath(path) for path in sys.path)


def end_with(parent: int) -> None:
    """On Linux the system ends this process with ``parent``, however that ends; at once, where it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def limit(kind: int, most: int) -> None:
    """Bounds a resource of this process (``resource.RLIMIT_*``), where the system knows it and allows that."""
    try:
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
    except (ValueError, OSError):
        return
