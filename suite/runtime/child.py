"""Children: what every process that the suite starts from a command line is given, and how it ends with its parent."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

_NAMES = {
    *("PATH", "HOME", "USER", "TMPDIR", "LANG", "TZ", "VIRTUAL_ENV", "SYSTEMROOT", "SUITE_CACHE"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
}
_BEGINNINGS = (
    "LC_",
    "PYTHON",
    "MALLOC_",
    "JAX_",
    "XLA_",
    "CUDA_",
    "NVIDIA_",
    "ROCM_",
    "HIP_",
    "ROCR_",
    "TPU_",
    "LIBTPU",
)
_SECRET = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.IGNORECASE)
_ROOT = str(Path(os.path.abspath(__file__)).parents[2])
"""Folder that this very suite was imported from."""
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def environment(**more: str) -> dict[str, str]:
    """Variables of a child that meets content of strangers: where programs, libraries and temporary files lie, the
    language, what JAX and its devices are told, and ``more``. All others of this process stay here, since tokens and
    passwords stand in variables of any name. The child finds the packages that this process finds."""
    given = {
        name: value
        for name, value in os.environ.items()
        if (name in _NAMES or name.startswith(_BEGINNINGS)) and not _SECRET.search(name)
    }
    return {**given, **more, "PYTHONPATH": os.pathsep.join(_packages())}


def _packages() -> list[str]:
    """Where this process finds packages, and the suite itself: a relative entry of ``sys.path`` may have meant another
    folder when the suite was imported, and an editable installation may name another checkout."""
    paths = [os.path.abspath(path) for path in sys.path]
    first = next((place for place, path in enumerate(paths) if os.path.isfile(f"{path}/suite/__init__.py")), len(paths))
    if paths[first : first + 1] != [_ROOT]:
        paths.insert(first, _ROOT)
    return paths


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


def start(main: str, descriptor: int, errors: int, **more: str) -> subprocess.Popen[bytes]:
    """A Python process that meets content of strangers, in a session of its own, so that Ctrl-C is for this one.

    Args:
        main: what it runs, in whose ``sys.argv[1]`` the descriptor stands.
        descriptor: that it inherits.
        errors: where its standard error goes, as `subprocess.Popen` takes it.
        **more: variables, see `environment`.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-c", main, str(descriptor)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment(**more),
        start_new_session=True,
    )


def available() -> int:
    """Bytes of memory that the machine has free; 0 where it does not say."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return 0
