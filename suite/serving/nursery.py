"""The process that trials are forked from: it has loaded JAX, which takes longer than a trial of a small bundle does,
has asked it for no device, and reads nothing of any bundle.

For each trial it forks a watcher, and the watcher the process of the trial. The connection to the server is also the
life of a trial: where the server closes it, or ends, the watcher ends what it watches.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from suite.runtime import child

IDLE_SECONDS = 60.0
"""After which a nursery without work ends; the next trial starts another."""
_MAIN = "import sys; from suite.serving.nursery_process import main; main(int(sys.argv[1]))"
_LINE = 1 << 20
_LEFT_SECONDS = 10.0
"""In which the watcher of a trial says that it has ended."""


class Nursery:
    """Starts trials. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def start(self) -> None:
        """Begin to load what trials need, unless that was done; by the thread that lives as long as the server."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Memory of a GPU is taken as it is needed; and it has one thread, so that it can be forked.
            single = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OPENBLAS_NUM_THREADS": "1"}
            self._process = child.start(_MAIN, theirs.fileno(), subprocess.PIPE, **single)

    def close(self) -> None:
        """End it, and the trials that it has started."""
        if self._process is None or self._socket is None:
            return
        self._socket.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = self._socket = None

    @contextlib.asynccontextmanager
    async def trial(self, request: dict[str, Any]) -> AsyncIterator["Running"]:
        """A trial that begins, see `suite.serving.nursery_process`; it has ended when this has been left."""
        ours, theirs = socket.socketpair()
        written, writing = socket.socketpair()
        with theirs, writing:
            self._ask(json.dumps(request).encode(), [theirs.fileno(), writing.fileno()])
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE)
        errors, closing = await asyncio.open_unix_connection(sock=written)
        try:
            yield Running(self, reader, errors)
        finally:
            with contextlib.suppress(OSError):
                writer.write_eof()  # the watcher ends what it watches, and then the connection
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                async with asyncio.timeout(_LEFT_SECONDS):
                    while await reader.read(_LINE):
                        pass
            writer.close()
            closing.close()

    def _ask(self, request: bytes, descriptors: list[int]) -> None:
        """Hand over a request; to another nursery where this one has ended meanwhile."""
        for _ in range(2):
            self.start()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, [request], descriptors)
                return
            except (BrokenPipeError, ConnectionResetError):
                self.close()

    def last_words(self) -> str:
        """What it wrote before it ended; empty where it lives."""
        if self._process is None or self._process.stderr is None or not self._ended():
            return ""
        return self._process.stderr.read().decode("utf-8", "replace")

    def _ended(self) -> bool:
        assert self._process is not None and self._socket is not None
        try:
            open_ = bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            open_ = True
        except OSError:  # it ended with a request that it had not read
            open_ = False
        if not open_:  # its end of the socket closes a moment before it is known to have ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        return self._process.poll() is not None


class Running:
    """A trial: the lines that it tells, what its libraries write, and how it ended.

    Attributes:
        code: exit code of its process, or the signal that it died of as a negative number; None before it ends, and
            where nobody could say.
    """

    def __init__(self, nursery: Nursery, lines: asyncio.StreamReader, errors: asyncio.StreamReader):
        self._nursery, self._lines, self._errors = nursery, lines, errors
        self.code: int | None = None

    async def told(self) -> AsyncIterator[dict[str, Any]]:
        """What it tells, line by line, to its end. Lines that no trial writes end it: the process was taken over."""
        with contextlib.suppress(ValueError, ConnectionError):
            async for line in self._lines:
                message = dict(json.loads(line))
                if "ended" in message:
                    self.code = int(message["ended"])
                    return
                yield message

    async def written(self, most: int) -> str:
        """The end of what was written to its standard error, ``most`` bytes at most."""
        kept = b""
        with contextlib.suppress(ConnectionError):
            while chunk := await self._errors.read(1 << 16):
                kept = (kept + chunk)[-most:]
        return kept.decode("utf-8", "replace") or self._nursery.last_words()[-most:]
