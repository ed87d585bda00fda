"""One connection: uvicorn's protocol, with a clock for slow heads and slow readers, a bound on heads, and draining."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from suite.serving.errors import Refused, encoded
from suite.serving.settings import Settings

HEAD_BYTES = 65_536
"""Most bytes of a request's head, and of what follows it and is no body: trailers, sizes of chunks."""
WRITE_SECONDS = 30.0
"""How long a client may leave an answer unread."""
LINGER_SECONDS = 1.0
"""How long a connection that is idle stays open when the server stops, since a request may be on its way; and one that
is refused, since its client may still be sending."""
LOST = "suite.lost"
"""Key of the scope: called with a function that is to be called when the client has gone, at once if it has."""


class Connection(HttpToolsProtocol):
    """What uvicorn's own leaves open: a head that never ends, an answer that is never read, a request that meets a
    server which is stopping. While an answer is awaited the connection has no clock: the request has its own.

    Args:
        settings: the limits.
        uvicorn: what uvicorn gives its protocols.
    """

    def __init__(self, *, settings: Settings, **uvicorn: Any):
        super().__init__(**uvicorn)
        self._settings = settings
        self._reading, self._writing = _Clock(self.loop), _Clock(self.loop)
        self._in_head = self._draining = self._refused = self._lost = False
        self._besides = 0
        """Bytes that are no body, since the last that were."""
        self._when_lost: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            message = f"{self._settings.max_connections} connections are open, which is the limit."
            self._refuse(Refused(503, "too_many_connections", message, retry=1, close=True))
            return
        self._reading.start(self._settings.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        super().connection_lost(exc)
        self._lost = True
        for call in self._when_lost:
            call()
        self._when_lost = []

    def _on_lost(self, call: Callable[[], None]) -> None:
        if self._lost:  # while its file was decoded, for example
            call()
        else:
            self._when_lost.append(call)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._besides += len(data)
        if self._in_head and self._besides > HEAD_BYTES:
            message = f"the head of the request has more than {HEAD_BYTES:,} bytes."
            self._refuse(Refused(431, "head_too_large", message, close=True))
            return
        super().data_received(data)
        if self._besides > HEAD_BYTES and not self._in_head:
            self._cut_off()
            return
        if self._busy:
            self._reading.stop()
        elif not self.transport.is_closing():
            self._reading.start(self._settings.head_s, self._too_slow)

    def on_message_begin(self) -> None:
        self._in_head, self._besides = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are read by nobody
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._besides = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head, self._besides = False, 0
        self._when_lost = []
        self.scope[LOST] = self._on_lost  # type: ignore[literal-required]
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        self._when_lost = []
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.start(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.stop()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refused(400, "invalid_http", msg, close=True))

    def shutdown(self) -> None:
        """The server is stopping: the answer in progress is the last; without one, a request that is on its way is."""
        self._draining = True
        if self._busy:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_SECONDS, self._close_idle)

    @property
    def _busy(self) -> bool:
        """Whether an answer is awaited."""
        return self.cycle is not None and not self.cycle.response_complete

    def _close_idle(self) -> None:
        if not self._busy:
            self.transport.close()

    def _too_slow(self) -> None:
        if self._in_head:
            message = f"the head of the request had not come within {self._settings.head_s:g} s."
            self._refuse(Refused(408, "head_too_slow", message, close=True))
        else:
            self.transport.close()

    def _cut_off(self) -> None:
        """The body is followed by more than trailers may be; whoever reads the request is told that it has ended."""
        if not self._busy or self.cycle.response_started:
            self.transport.close()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        message = f"what comes beside the body has more than {HEAD_BYTES:,} bytes."
        self._refuse(Refused(431, "trailers_too_large", message, close=True))

    def _refuse(self, error: Refused) -> None:
        """An answer without a request, and the end; what still comes is ignored for a moment, since a client whose
        bytes are not taken would lose the answer."""
        if self.transport.is_closing() or self._refused:
            return
        self._refused = True
        self.connections.discard(self)
        body = encoded(error.body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *error.headers]
        lines = [STATUS_LINE[error.status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


class _Clock:
    """Calls once after so many seconds, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        """Begin to count, unless it counts already."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
