"""The body of a request, read within its limits: bytes, seconds, and what all requests together may hold."""

import asyncio
import contextlib
from typing import Any

from suite.serving.errors import Refused
from suite.serving.settings import Settings

LINGER_SECONDS = 2.0
"""How long a body that is refused is still read, so that its sender comes to read the answer."""

Scope = dict[str, Any]
"""A request, as ASGI describes it."""
Receive = Any
Send = Any


class Gone(Exception):
    """The client closed the connection before its request was whole."""


class Held:
    """Bytes of all requests that are being read or answered.

    Args:
        most: above which further ones are refused.
    """

    def __init__(self, most: int):
        self._most, self.bytes = most, 0

    def take(self, count: int) -> None:
        """Count ``count`` bytes more; whoever took them gives them back.

        Raises:
            Refused: 429, there is no room.
        """
        if self.bytes + count > self._most:
            message = f"requests in progress hold {self.bytes:,} bytes, of at most {self._most:,}."
            raise Refused(429, "too_many_bytes", message, fix="send it again after a moment", retry=1, close=True)
        self.bytes += count

    def give_back(self, count: int) -> None:
        """What ``take`` counted is no more."""
        self.bytes -= count


class Body:
    """Reads one request's body, and holds its bytes until ``release``.

    Args:
        scope: the request.
        receive: its messages.
        settings: the limits.
        held: what all requests hold.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: Settings, held: Held):
        self._receive, self._settings, self._held = receive, settings, held
        self.headers = dict(scope["headers"])
        self._taken = 0
        self.whole = False
        """Whether all of it has been read."""
        self.late = False
        """Whether its request is over, though its bytes are still held."""

    async def read(self) -> bytes:
        """All of it.

        Raises:
            Refused: 413, it is too large, by its own word or as it comes; 408, it comes too slowly; 429.
            Gone: the connection ended before.
        """
        stated = self.headers.get(b"content-length", b"")
        if stated.isdigit() and int(stated[:20]) > self._settings.max_body_bytes:
            raise self._too_large(f"{int(stated[:20]):,} bytes")
        try:
            async with asyncio.timeout(self._settings.body_s):
                return await self._all()
        except TimeoutError:
            message = f"the body had not come within {self._settings.body_s:g} s."
            raise Refused(408, "body_too_slow", message, close=True) from None

    def release(self) -> None:
        """The bytes are no longer needed."""
        self._held.give_back(self._taken)
        self._taken = 0

    def keep_until(self, work: "asyncio.Future[Any]") -> None:
        """The request is over, but ``work`` has its bytes until it is done."""
        taken, self._taken, self.late = self._taken, 0, True

        def end(done: "asyncio.Future[Any]") -> None:
            self._held.give_back(taken)
            if not done.cancelled():
                done.exception()  # looked at: nobody is missing what it came to

        work.add_done_callback(end)

    async def discard(self) -> None:
        """Read on without keeping anything, for a while: a sender that is cut off would never read why."""
        if self.whole or b"expect" in self.headers:
            return
        seen = 0
        with contextlib.suppress(TimeoutError, Gone):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.whole and seen < 4 * self._settings.max_body_bytes:
                    seen += len(await self._next())

    async def _all(self) -> bytes:
        chunks: list[bytes] = []
        while not self.whole:
            chunk = await self._next()
            self._held.take(len(chunk))
            self._taken += len(chunk)
            if self._taken > self._settings.max_body_bytes:
                raise self._too_large(f"more than {self._settings.max_body_bytes:,} bytes")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.whole = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self, size: str) -> Refused:
        message = f"the body has {size}; at most {self._settings.max_body_bytes:,} are read."
        return Refused(413, "body_too_large", message, fix="send fewer records, or smaller files", close=True)
