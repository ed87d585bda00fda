"""A version is tried in a process of its own, with a clock and a bound on its memory, before the server touches it.

What reads, compiles and runs programs is native code that is made for programs of one's own: some bytes end the process
that reads them, and a program may never end, or want all memory. The process that tries a version leaves what it has
compiled in a folder, so that the server compiles nothing again.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.runtime.child import import_path
from suite.serving.errors import Refused

SECRET = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.IGNORECASE)
"""Variables that the process is not given."""
_MAIN = "from suite.serving.trial_process import main; main()"
_TOLD = 4096
"""Bytes that are kept of what libraries write before the process ends."""


class Passing(InputError):
    """A version that cannot be served now, and perhaps can later: no room, no memory, or it took too long."""


@dataclass(frozen=True)
class Trial:
    """What is tried, and within which bounds.

    Attributes:
        where: how errors call the bundle.
        folder: of the bundle.
        cache: folder for compiled programs.
        allow: packages whose classes its codec may name.
        trust: public keys, one of which must have signed it; empty: it need not be signed.
        sizes: of batches.
        seconds: that it may take.
        most: bytes of memory; 0: what is free.
        compile: whether programs are compiled and run; else they are read alone.
        catalogue: what becomes the catalogue of another bundle, which is written in place of the trial, as
            `suite.serving.trial_process` takes it.
    """

    where: str
    folder: Path
    cache: Path
    allow: tuple[str, ...]
    trust: str
    sizes: tuple[int, ...]
    seconds: float
    most: int = 0
    compile: bool = True
    catalogue: Mapping[str, Any] | None = None

    async def run(self, begun: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What the process says where the version can be opened, compiled and run.

        Args:
            begun: called before each compilation.

        Raises:
            Refused: the request's catalogue cannot be used.
            Passing: not in time, or not in the memory there is.
            InputError: it cannot; says why.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _MAIN),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the server
        )
        try:
            async with asyncio.timeout(self.seconds):
                told, written = await asyncio.gather(self._told(process, begun), _last(process.stderr))
                code = await process.wait()
        except TimeoutError:
            raise Passing(
                self.where, f"is not ready after {self.seconds:g} s.", fix=f"--warm-s {2 * self.seconds:g}"
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
        self._judge(told, code, written)
        return told

    async def _told(self, process: asyncio.subprocess.Process, begun: Callable[[], None]) -> dict[str, Any]:
        """The last line of the process; empty where it is none of ours."""
        assert process.stdin is not None and process.stdout is not None
        told: dict[str, Any] = {}
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(self._request()).encode() + b"\n")
            await process.stdin.drain()
            process.stdin.close()
        with contextlib.suppress(ValueError):  # no JSON, or a line without end: the process was taken over
            async for line in process.stdout:
                told = dict(json.loads(line))
                if "begun" in told:
                    begun()
        return told

    def _request(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "cache": str(self.cache),
            "allow": self.allow,
            "trust": self.trust,
            "sizes": self.sizes,
            "bytes": self.most,
            "compile": self.compile,
            "catalogue": self.catalogue,
        }

    def _judge(self, told: dict[str, Any], code: int, written: str) -> None:
        """Raises what became of it."""
        if told.get("done") and code == 0:
            return
        if "request" in told:
            status, code_, message, field, fix = told["request"]
            raise Refused(
                int(status), str(code_)[:100], str(message)[:1000], field=str(field)[:300], fix=str(fix)[:300]
            )
        if "refused" in told:
            where, problem, found, fix = (str(text)[:1000] for text in told["refused"])
            raise InputError(where, problem, found=found, fix=fix)
        if "passing" in told:
            raise Passing(self.where, "cannot be tried now.", found=str(told["passing"])[:1000])
        if "failed" in told:
            raise InputError(self.where, "cannot be compiled and run.", found=str(told["failed"])[:1000])
        if code == -signal.SIGKILL or "bad_alloc" in written:
            more = "--warm-bytes BYTES, or a machine with more"
            raise Passing(self.where, "needs more memory to be compiled and run than there is.", fix=more)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            fix = "a bundle from a source that you trust"
            raise InputError(self.where, "ends the process that tries it.", found=name, fix=fix)
        found = written.strip().rpartition("\n")[2] or f"exit code {code}"
        raise Passing(self.where, "cannot be tried: the process for it ended at once.", found=found)


def _environment() -> dict[str, str]:
    """Of the server, without its secrets; memory of a GPU is taken as it is needed."""
    given = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **given, "PYTHONPATH": import_path()}


async def _last(stream: asyncio.StreamReader | None) -> str:
    """The end of what is written to a stream."""
    assert stream is not None
    kept = b""
    while chunk := await stream.read(1 << 16):
        kept = (kept + chunk)[-_TOLD:]
    return kept.decode("utf-8", "replace")
