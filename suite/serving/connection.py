"""One connection: uvicorn's protocol, with a clock for slow heads and slow readers, a bound on heads, one reading of
where a request ends, and draining."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from suite.serving.errors import Refused, encoded
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings

HEAD_BYTES = 65_536
"""Most bytes of a request's head, and of what follows it and is no body: trailers, sizes of chunks. The parser is given
no more at a time, so that what it has not yet made anything of is bounded too."""
PIECE_BYTES = 4_096
"""Bytes that the parser is given at a time where they may be many requests: each takes a hundred times its bytes."""
WRITE_SECONDS = 30.0
"""How long a client may leave an answer unread."""
LINGER_SECONDS = 1.0
"""How long a connection that is idle stays open when the server stops, since a request may be on its way; and one that
is refused, since its client may still be sending."""
_LOOKED_AT = frozenset({b"transfer-encoding", b"expect"})
LOST = "suite.lost"
"""Key of the scope: called with a function that is to be called when the client has gone, at once if it has."""


class Connection(HttpToolsProtocol):
    """What uvicorn's own leaves open: a head that never ends, an answer that is never read, a request that meets a
    server which is stopping, and a request whose end another reader of HTTP may see elsewhere (RFC 9112, sections 6 and
    11.2), which is refused, or is the last of its connection. While an answer is awaited the connection has no clock:
    the request has its own.

    Args:
        settings: the limits.
        monitor: counts what is refused.
        uvicorn: what uvicorn gives its protocols.
    """

    def __init__(self, *, settings: Settings, monitor: Monitor, **uvicorn: Any):
        super().__init__(**uvicorn)
        self._settings, self._monitor = settings, monitor
        self._reading, self._writing = _Clock(self.loop), _Clock(self.loop)
        self._in_head = self._draining = self._ended = self._lost = False
        self._head = self._besides = 0
        """Bytes of the head that the parser has told of; bytes given to it since it last told of a head or a body."""
        self._coded = False
        """Whether the head names a transfer coding."""
        self._unparsed: bytes | memoryview = b""
        """What came behind requests that wait for their turn; while it is held, nothing is read."""
        self._fault: Refused | None = None
        """What a callback found wrong with the request that is being parsed."""
        self._refusal: Refused | None = None
        """The last answer of the connection, while requests before it are answered."""
        self._when_lost: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._may_read)
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
        if len(data) <= PIECE_BYTES and not self._unparsed:
            self._parse(data)
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse_held()
        if self._busy:
            self._reading.stop()
        elif not self._ended and not self.transport.is_closing():
            self._reading.start(self._settings.head_s, self._too_slow)

    def _parse_held(self) -> None:
        """Piece by piece, until a request has to wait."""
        while self._unparsed and not self.pipeline and not self._ended:
            size = HEAD_BYTES if self._in_body else PIECE_BYTES
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parse(piece)
        if self._ended:
            self._unparsed = b""

    def _may_read(self) -> bool:
        return not self.pipeline and not self._unparsed

    def _parse(self, data: bytes | memoryview) -> None:
        """At most ``HEAD_BYTES`` more; nothing once the connection has had its last request."""
        if self._ended:
            return
        self._besides += len(data)
        super().data_received(data)  # type: ignore[arg-type]
        if self._besides > HEAD_BYTES and not self._ended:
            self._refuse(self._too_large())

    def _too_large(self) -> Refused:
        if self._in_head:
            message = f"the head of the request has more than {HEAD_BYTES:,} bytes."
            return Refused(431, "head_too_large", message, close=True)
        message = f"what comes beside the body has more than {HEAD_BYTES:,} bytes."
        return Refused(431, "trailers_too_large", message, close=True)

    def on_message_begin(self) -> None:
        self._in_head, self._coded, self._head, self._besides = True, False, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > HEAD_BYTES:
            raise self._at_fault(self._too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, which would be called for every line of every request."""
        if not self._in_head:  # trailers are read by nobody
            return
        self._head += len(name) + len(value) + 4  # colon, space and the line's end
        if self._head + len(self.url) > HEAD_BYTES:
            raise self._at_fault(self._too_large())
        name = name.lower()
        if name in _LOOKED_AT:
            if name == b"transfer-encoding":
                self._coded = True
            elif value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.append((name, value))

    def _at_fault(self, fault: Refused) -> Refused:
        """To be raised in a callback: the parser stops, and says only that it did."""
        self._fault = fault
        return fault

    def on_body(self, body: bytes) -> None:
        self._besides = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        version, upgrade = self.parser.get_http_version(), self.parser.should_upgrade()
        if upgrade or self._coded or version != "1.1" or self.url[:1] != b"/":
            self._check_framing(version, upgrade)
        self._in_head, self._besides = False, 0
        self.scope[LOST] = self._on_lost  # type: ignore[literal-required]
        super().on_headers_complete()
        if self._draining or upgrade:
            self.cycle.keep_alive = False

    def _check_framing(self, version: str, upgrade: bool) -> None:
        """Refuses a request of which another reader may think that it ends elsewhere. The rest of them httptools
        refuses itself: lengths that are stated twice, folded lines, lines that end otherwise than by CR LF."""
        announced, host = False, b""
        for name, value in self.headers:
            if name == b"transfer-encoding":
                announced = True
                if value.strip().lower() != b"chunked" or version == "1.0":
                    raise self._at_fault(_unreadable(f"a body coded as {value.decode('latin-1')[:50]} is not read."))
            elif name == b"content-length":
                announced = value.strip(b" \t0") != b""
            elif name == b"host":
                host = value
        if version not in ("1.0", "1.1"):
            raise self._at_fault(_unreadable(f"HTTP {version} is not spoken here; HTTP/1.1 is."))
        if not self.url.startswith((b"/", b"*")) and self.url.partition(b"://")[2].partition(b"/")[0] != host:
            raise self._at_fault(_unreadable("the address of the request names another host than its header Host."))
        if upgrade and announced:  # the parser would take its body for what follows the change of protocol
            message = "a request that would change the protocol must have no body."
            raise self._at_fault(_unreadable(message, fix="leave out Connection: upgrade"))

    def on_response_complete(self) -> None:
        self._when_lost = []
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._unparsed and not self.pipeline:
            self._parse_held()
            self.flow.resume_reading()
        if self._refusal is not None and not waiting:
            self._say_last(self._refusal)
        elif self._in_head and not self._busy:  # of a request that came while this was answered
            self._reading.start(self._settings.head_s, self._too_slow)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.start(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.stop()

    def _unsupported_upgrade_warning(self) -> None:
        """The head asked for another protocol: its request is the last, whatever follows."""
        self._ended = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._fault or _unreadable(msg))

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

    @property
    def _in_body(self) -> bool:
        """Whether what comes belongs to the body of a request that is not yet answered."""
        return self._busy and self.cycle.more_body and not self._in_head

    def _close_idle(self) -> None:
        if not self._busy:
            self.transport.close()

    def _too_slow(self) -> None:
        if self._in_head:
            message = f"the head of the request had not come within {self._settings.head_s:g} s."
            self._refuse(Refused(408, "head_too_slow", message, close=True))
        else:
            self.transport.close()

    def _refuse(self, error: Refused) -> None:
        """The end of the connection, with an answer once those before it have been given. A request whose body is
        being read is told that it has ended, and this is its answer, unless it has begun another."""
        if self.transport.is_closing() or self._ended:
            return
        self._ended = True
        self._monitor.connection_refused(error.code)
        if self._in_body:
            cut, waiting = self.cycle, len(self.pipeline)
            if waiting and self.pipeline[0][0] is cut:
                self.pipeline.popleft()
            elif cut.response_started:
                self.transport.close()
                return
            cut.disconnected, cut.waiting_for_100_continue = True, False
            cut.message_event.set()
            if not waiting:
                self._say_last(error)
                return
        if self._busy or self.pipeline:
            self._refusal = error
        else:
            self._say_last(error)

    def _say_last(self, error: Refused) -> None:
        """What still comes is ignored for a moment, since a client whose bytes are not taken would lose the answer."""
        if self.transport.is_closing():
            return
        self.connections.discard(self)
        body = encoded(error.body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *error.headers]
        lines = [STATUS_LINE[error.status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _unreadable(message: str, fix: str = "") -> Refused:
    return Refused(400, "invalid_http", message, fix=fix, close=True)


class _Flow(FlowControl):
    """Reads on only where what comes has a place: uvicorn's own asks for more with each answer, however many requests
    wait already."""

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]):
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        if self._may_read():
            super().resume_reading()


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
