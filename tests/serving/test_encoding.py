"""Where requests are encoded: nothing waits in the thread of the loop, and what waits for decoders stops no other."""

import asyncio
import threading
import time

import pytest

from suite.runtime import decoders
from suite.serving.encoding import DECODING, Encoders
from suite.serving.errors import Refused


class Kept:
    """A body that remembers what it is kept for."""

    def keep_until(self, work):
        self.work = work


def running(encoders, call, at_once=True, seconds=20.0):
    return encoders.run(call, Kept(), at_once, time.monotonic() + seconds, seconds)


def here():
    return threading.current_thread().name


def there():
    decoders.call("it", pow, 2, 3)
    return here()


def test_only_what_waits_for_a_decoder_is_moved_to_a_thread_that_may():
    async def main():
        encoders = Encoders(5.0)
        moved = [await running(encoders, call, at_once) for call in (here, there) for at_once in (True, False)]
        assert [name.partition("_")[0] for name in moved] == [
            threading.main_thread().name,
            "encode",
            "decode",
            "decode",
        ]

    asyncio.run(main())


def test_requests_that_wait_for_decoders_are_bounded_and_others_go_on():
    def slow():
        decoders.call("it", time.sleep, 1.5)

    async def main():
        encoders, begun = Encoders(5.0), time.monotonic()
        waiting = [asyncio.ensure_future(running(encoders, slow)) for _ in range(2 * DECODING)]
        await asyncio.sleep(0.1)
        with pytest.raises(Refused) as refused:
            await running(encoders, slow)
        assert (refused.value.status, refused.value.code) == (429, "decoders_busy")
        assert await running(encoders, lambda: 1, at_once=False) == 1 and time.monotonic() - begun < 1.4
        await asyncio.gather(*waiting)
        assert await running(encoders, there)

    asyncio.run(main())


def test_a_decoder_is_ended_before_the_time_of_its_request_is_over():
    def endless():
        decoders.call("it", time.sleep, 60)

    async def main():
        with pytest.raises(decoders.Ended, match="too long"):
            await running(Encoders(5.0), endless, seconds=1.5)

    asyncio.run(main())
