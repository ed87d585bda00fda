"""Trials of former servers: a version that one of them has tried on this machine is not tried again.

A record is written once the version is warm. It is of all that a trial depends on: the bundle to its last byte, the
sizes, the libraries, the processor and what JAX is told. It is authenticated by a key that only this user reads, so
that a folder of records from elsewhere is of no use here.
"""

import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import platform
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from suite.distribution import version
from suite.runtime import child
from suite.runtime.compilation import cache_root
from suite.runtime.files import write_text

FOLDER, KEY = "tried", "key"
MOST = 1000
"""Records that are kept, the newest."""
_LIBRARIES = ("jax", "jaxlib", "ml_dtypes", "numpy", "onnxruntime", "openvino", "tokenizers")
_VARIABLES = ("JAX_", "XLA_")


class Took(NamedTuple):
    """What a trial took: bytes of memory, and the device that it computed on."""

    bytes: int
    device: str


@dataclass(frozen=True)
class Record:
    """What is known of the trial of one version.

    Attributes:
        folder: of the records of this user.
        subject: what was tried, as text: equal for equal trials.
    """

    folder: Path
    subject: str

    def stands(self, device: Callable[[], str]) -> bool:
        """Whether it was tried, on the same device and with no more memory than there is now.

        Args:
            device: says what computes here; called only where all else agrees, since it starts that device.
        """
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            took = Took(int(stored["bytes"]), str(stored["device"]))
            available = child.available()
            return (
                hmac.compare_digest(str(stored["code"]), self._code(took))
                and (not available or took.bytes <= available)
                and took.device == device()
            )
        return False

    def keep(self, took: Took) -> None:
        """Write it, where there is room."""
        with contextlib.suppress(OSError):
            content = {"bytes": took.bytes, "device": took.device, "code": self._code(took)}
            write_text(self._file, json.dumps(content) + "\n")
            for old in sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-MOST]:
                old.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self.folder / f"{hashlib.sha256(self.subject.encode()).hexdigest()}.json"

    def _code(self, took: Took) -> str:
        content = json.dumps([took.bytes, took.device, self.subject]).encode()
        return hmac.new(_key(self.folder), content, hashlib.sha256).hexdigest()


def record_of(stated: bytes, sizes: tuple[int, ...], engine: str = "auto") -> Record | None:
    """The record of a version; None where nothing is kept.

    Args:
        stated: its ``bundle.json``, which holds the checksums of all else.
        sizes: of the batches that are compiled.
        engine: that is asked for, see `suite.contracts.engine`.
    """
    root = cache_root()
    if root is None:
        return None
    subject: dict[str, Any] = {
        "bundle": hashlib.sha256(stated).hexdigest(),
        "sizes": sizes,
        "engine": engine,
        "machine": [platform.node(), platform.release(), platform.python_version(), _processor()],
        "libraries": {"suite": version(), **dict(_libraries())},
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
    }
    return Record(root / FOLDER, json.dumps(subject, sort_keys=True))


def _libraries() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _processor() -> str:
    """What compiled programs may use of the processor."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        told = sorted(line for line in first if line.startswith(("model name", "flags", "Features", "CPU part")))
        return hashlib.sha256("\n".join(told).encode()).hexdigest()
    return platform.processor()


def _key(folder: Path) -> bytes:
    """The key of the records in ``folder``, made where there is none.

    Raises:
        OSError: it cannot be read, or others may read or change it.
    """
    path = folder / KEY
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"partial-{os.getpid()}-{KEY}"
        try:
            with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
            with contextlib.suppress(FileExistsError):  # another server was faster
                os.link(made, path)
        finally:
            made.unlink(missing_ok=True)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise PermissionError(f"{path} is not this user's alone")
        return file.read(64)
