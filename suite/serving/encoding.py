"""Where requests are read and encoded: in the thread of the loop, in others, or with the help of decoder processes."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from suite.runtime import decoders
from suite.serving.errors import Refused
from suite.serving.request_body import Body

T = TypeVar("T")

DECODING = 4
"""Requests that are encoded with decoder processes at a time; as many again may wait for them."""
PATIENCE = 0.9
"""Share of a request's time after which a decoder process is ended, so that the answer says why."""


class Encoders:
    """Threads that encode. What needs a decoder process is encoded by threads of its own, so that files which take long
    there keep no other request waiting.

    Args:
        decoder_s: seconds of processor time that a decoder process has for a file.
    """

    def __init__(self, decoder_s: float):
        self._decoder_s = decoder_s
        self._encoders = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "encode")
        self._decoders = ThreadPoolExecutor(DECODING, "decode")
        self._decoding = 0

    async def run(self, call: Callable[[], T], body: Body, at_once: bool, until: float, seconds: float) -> T:
        """What ``call`` makes of a body.

        Args:
            call: reads and encodes it.
            body: kept until ``call`` is done with it.
            at_once: whether this takes so little that it is done in the loop's own thread.
            until: when the request's time is over, on the monotonic clock.
            seconds: all of that time.

        Raises:
            Refused: 504, the time is over; 429, all decoder processes are at work.
        """
        try:
            if at_once:
                return _without_decoders(call)
            return await self._in_thread(self._encoders, lambda: _without_decoders(call), body, until, seconds)
        except decoders.Elsewhere:
            pass
        if self._decoding >= 2 * DECODING:
            raise _busy()
        self._decoding += 1
        patient = time.monotonic() + PATIENCE * (until - time.monotonic())
        decoding = lambda: _with_decoders(call, patient, self._decoder_s)
        return await self._in_thread(self._decoders, decoding, body, until, seconds, self._has_decoded)

    def _has_decoded(self, work: asyncio.Future[T]) -> None:
        self._decoding -= 1

    async def _in_thread(
        self,
        threads: ThreadPoolExecutor,
        call: Callable[[], T],
        body: Body,
        until: float,
        seconds: float,
        done: Callable[[asyncio.Future[T]], None] | None = None,
    ) -> T:
        """What ``call`` returns in one of ``threads``; ``done`` is called then, also where nobody waits any more."""
        work = asyncio.get_running_loop().run_in_executor(threads, call)
        if done is not None:
            work.add_done_callback(done)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await asyncio.shield(work)  # cancelled, it would keep the bytes all the same until its turn
        except TimeoutError:
            body.keep_until(work)
            raise Refused(504, "deadline", f"not answered within {seconds:g} s.", retry=1) from None


def _without_decoders(call: Callable[[], T]) -> T:
    with decoders.never():
        return call()


def _with_decoders(call: Callable[[], T], until: float, seconds: float) -> T:
    try:
        with decoders.within(until, seconds):
            return call()
    except decoders.Busy:
        raise _busy() from None


def _busy() -> Refused:
    message = "all decoders of pictures, recordings and texts are at work."
    return Refused(429, "decoders_busy", message, fix="send it again after a moment", retry=1)
