"""A version is tried in a process of its own, with a clock and a bound on its memory, before the server touches it.

What reads, compiles and runs programs is native code that is made for programs of one's own: some bytes end the process
that reads them, and a program may never end, or want all memory. The process that tries a version leaves what it has
compiled in a folder, so that the server compiles nothing again.
"""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.serving.errors import Refused
from suite.serving.nursery import Nursery, Running

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
        engine: of `suite.contracts.engine.Engine`.
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
    engine: str = "auto"
    compile: bool = True
    catalogue: Mapping[str, Any] | None = None

    async def run(self, nursery: Nursery, begun: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What the process says where the version can be opened, compiled and run.

        Args:
            nursery: starts the process.
            begun: called before each compilation.

        Raises:
            Refused: the request's catalogue cannot be used.
            Passing: not in time, or not in the memory there is.
            InputError: it cannot; says why.
        """
        told: dict[str, Any] = {}

        async def listened(running: Running) -> None:
            nonlocal told
            async for told in running.told():
                if "begun" in told:
                    begun()

        try:
            async with nursery.trial(self._request()) as running, asyncio.timeout(self.seconds):
                _, written = await asyncio.gather(listened(running), running.written(_TOLD))
        except TimeoutError:
            raise Passing(
                self.where, f"is not ready after {self.seconds:g} s.", fix=f"--warm-s {2 * self.seconds:g}"
            ) from None
        self._judge(told, running.code, written)
        return told

    def _request(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "cache": str(self.cache),
            "allow": self.allow,
            "trust": self.trust,
            "sizes": self.sizes,
            "bytes": self.most,
            "engine": self.engine,
            "compile": self.compile,
            "catalogue": self.catalogue,
        }

    def _judge(self, told: dict[str, Any], code: int | None, written: str) -> None:
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
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            fix = "a bundle from a source that you trust"
            raise InputError(self.where, "ends the process that tries it.", found=name, fix=fix)
        found = written.strip().rpartition("\n")[2] or (f"exit code {code}" if code is not None else "")
        raise Passing(self.where, "cannot be tried: the process for it ended at once.", found=found)
