"""Records of many requests computed together: a bounded queue, batches of compiled sizes, answers in their order.

All but the computation happens in the thread of the event loop, so nothing needs a lock. Dims: n records of a request.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from suite.runtime.decoders import Ended
from suite.serving.errors import Refused, refused

Compute = Callable[[list[Any], int, int], Sequence[Any]]
"""(encoded records, padded length, batch size at least their number) -> one answer a record; in a worker thread."""
Observe = Callable[[int, int, float], None]
"""Called after each batch with its records, its size and its seconds."""

Batches = dict[float, tuple[float, int, int]]
"""Batches that computed the records of a request: when each began, on the clock of `time.perf_counter` -> its seconds,
its records and its size."""

LEARNT = 0.1
"""Weight of the latest batch in what a batch is expected to take."""
GONE = 499
"""Status of requests that nobody waits for any more, in metrics alone: it is never sent."""

log = logging.getLogger("suite.serving")


class Ticket:
    """A request that waits for the answers to its records.

    Args:
        count: how many they are.

    Attributes:
        batches: that computed them, where that is traced; else None.
    """

    def __init__(self, count: int):
        self.batches: Batches | None = None
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._answers: list[Any] = [None] * count
        self._missing = count

    @property
    def over(self) -> bool:
        """Whether nobody waits any more: answered, refused, out of time, or gone."""
        return self.future.done()

    def give(self, place: int, answer: Any) -> None:
        """The answer to the record at ``place``; the last one ends the wait."""
        self._answers[place] = answer
        self._missing -= 1
        if not self._missing and not self.over:
            self.future.set_result(self._answers)

    def fail(self, error: Exception) -> None:
        """End the wait without answers."""
        if not self.over:
            self.future.set_exception(error)
            self.future.exception()  # looked at: where nobody waits any more, nobody is missing an answer

    def leave(self) -> None:
        """The client has gone: records that have not been computed yet never will be."""
        self.fail(Refused(GONE, "client_gone", "the client closed the connection."))

    async def answers(self, seconds: float, left: float) -> list[Any]:
        """One answer a record, in their order.

        Args:
            seconds: that the request may take.
            left: how many of them are left.

        Raises:
            Refused: 504, they took longer; or why there are none.
        """
        late = Refused(504, "deadline", f"not answered within {seconds:g} s.", retry=1)
        timer = self.future.get_loop().call_later(max(left, 0.0), self.fail, late)
        try:
            return await self.future
        finally:
            timer.cancel()


@dataclass(slots=True)
class Item:
    """One encoded record in the queue.

    Attributes:
        row: as the codec made it.
        length: that it is padded to at least.
        ticket: its request.
        place: its place in the request.
        since: when it came, on the loop's clock.
    """

    row: Any
    length: int
    ticket: Ticket
    place: int
    since: float


class Batcher:
    """Groups records by padded length and by compiled batch sizes; one batch is computed at a time.

    A batch leaves when the device is free and it is full, or as many wait as the last batch held, or the oldest has
    waited ``wait`` seconds. So a client that asks alone never waits for others, and many that ask at once are not
    taken one by one. It holds the oldest record and those of the length and number that, by the times batches have
    taken, answer most records a second: padding costs, and so does each batch.

    Args:
        compute: makes the answers to a batch.
        sizes: batch sizes that are compiled, ascending.
        wait: seconds.
        capacity: most records that wait; further requests are refused.
        seconds: (length, size) -> what such a batch takes, for all or for none; learnt on as batches are computed.
        observe: told of each batch.
    """

    def __init__(
        self,
        compute: Compute,
        sizes: Sequence[int],
        *,
        wait: float,
        capacity: int,
        seconds: Mapping[tuple[int, int], float] = MappingProxyType({}),
        observe: Observe = lambda records, size, seconds: None,
    ):
        self._compute, self._sizes, self._wait, self._capacity = compute, tuple(sizes), wait, capacity
        self._observe, self._loop = observe, asyncio.get_running_loop()
        self._queues: dict[int, deque[Item]] = {}
        self._seconds = dict(seconds)
        self.waiting = 0
        """Records in the queue, those of clients that have gone included."""
        self._expected = 1
        self._busy = self._asked = False
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = ""
        self._work: queue.SimpleQueue[tuple[list[Item], int, int] | None] = queue.SimpleQueue()
        # A daemon: a computation that doesn't end must not keep the process from ending.
        threading.Thread(target=self._run, name="compute", daemon=True).start()

    def check_room(self, rows: int) -> None:
        """Raises Refused: 413, a request takes more rows than may ever wait."""
        if rows > self._capacity:
            message = (
                f"takes {rows} rows of a batch, such as tiles of images, of at most {self._capacity} that may wait."
            )
            raise Refused(413, "too_many_rows", message, field="inputs", fix="fewer records, or smaller ones")

    def submit(self, rows: Sequence[tuple[Any, int]]) -> Ticket:
        """Queue the records of a request, each with the length it is padded to.

        Raises:
            Refused: 429, the queue has no room for all of them; 503, the server is stopping.
        """
        if self._closed:
            raise Refused(503, "stopping", self._closed, retry=1)
        if self.waiting + len(rows) > self._capacity:
            message = f"{self.waiting} records are waiting, of at most {self._capacity}."
            raise Refused(429, "queue_full", message, fix="send it again after a moment", retry=1)
        ticket, now = Ticket(len(rows)), self._loop.time()
        for place, (row, length) in enumerate(rows):
            self._queues.setdefault(length, deque()).append(Item(row, length, ticket, place, now))
        self.waiting += len(rows)
        self._ask()
        return ticket

    @property
    def computing(self) -> float:
        """Seconds for which the batch at work has been computed; 0 where none is."""
        return self._loop.time() - self._begun if self._busy else 0.0

    def close(self, why: str) -> None:
        """Refuse what waits and what comes; the batch in progress is still answered."""
        self._closed = why
        for waiting in self._queues.values():
            for item in waiting:
                item.ticket.fail(Refused(503, "stopping", why, retry=1))
            waiting.clear()
        self.waiting = 0
        self._work.put(None)

    def _ask(self) -> None:
        """Look at the queue once all that has arrived by now is in it."""
        if not self._asked and not self._busy:
            self._asked = True
            self._loop.call_soon(self._consider)

    def _consider(self) -> None:
        """Let a batch leave, or see to it that one does in time."""
        self._asked = False
        if self._busy:
            return
        oldest = self._oldest()
        if oldest is None:
            return
        due = oldest.since + self._wait
        if self.waiting >= min(self._expected, self._sizes[-1]) or self._loop.time() >= due:
            self._leave(oldest)
        elif self._timer is None:
            self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = None
        self._consider()

    def _oldest(self) -> Item | None:
        """The record that has waited longest; those that nobody waits for are dropped on the way."""
        oldest: Item | None = None
        for waiting in self._queues.values():
            while waiting and waiting[0].ticket.over:
                waiting.popleft()
                self.waiting -= 1
            if waiting and (oldest is None or waiting[0].since < oldest.since):
                oldest = waiting[0]
        return oldest

    def _leave(self, oldest: Item) -> None:
        """Hand a batch with the oldest record to the worker."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        length, size = self._shape(oldest.length)
        items: list[Item] = []
        self._take(self._queues[oldest.length], 1, items)
        for other in sorted((other for other in self._queues if other <= length), reverse=True):
            self._take(self._queues[other], size, items)
        self._busy, self._expected, self._begun = True, len(items), self._loop.time()
        self._work.put((items, length, size))

    def _take(self, waiting: deque[Item], size: int, items: list[Item]) -> None:
        while waiting and len(items) < size:
            item = waiting.popleft()
            self.waiting -= 1
            if not item.ticket.over:
                items.append(item)

    def _shape(self, least: int) -> tuple[int, int]:
        """The length, at least ``least``, and the size of the batch that answers most records a second."""
        best, fastest, count = (least, self._sizes[0]), 0.0, 0
        for length in sorted(self._queues):
            count += len(self._queues[length])
            for size in self._sizes if length >= least else ():
                rate = min(count, size) / self._expect(length, size)
                if rate > fastest:
                    best, fastest = (length, size), rate
        return best

    def _expect(self, length: int, size: int) -> float:
        """What a batch takes: seconds, where they were measured; else in proportion to its rows and two more, for what
        each batch takes besides."""
        return self._seconds[length, size] if self._seconds else max(length, 1) * (size + 2.0)

    def _run(self) -> None:
        """The worker: batches come, answers or an error for each record go."""
        while (work := self._work.get()) is not None:
            items, length, size = work
            begun = time.perf_counter()
            answers = self._answers(items, length, size)
            seconds = time.perf_counter() - begun
            with contextlib.suppress(RuntimeError):  # the loop has ended before this batch
                self._loop.call_soon_threadsafe(self._done, items, answers, length, size, begun, seconds)

    def _answers(self, items: list[Item], length: int, size: int) -> Sequence[Any]:
        """Answers; where the batch fails as a whole, each record is tried alone, and an error stands for its answer."""
        try:
            return self._compute([item.row for item in items], length, size)
        except Exception as error:
            log.exception("a batch of %d records failed", len(items))
            if len(items) == 1:
                return [error]
            return [self._answers([item], length, self._sizes[0])[0] for item in items]

    def _done(
        self, items: list[Item], answers: Sequence[Any], length: int, size: int, begun: float, seconds: float
    ) -> None:
        """Hand answers out, and let the next batch leave."""
        self._busy = False
        if self._seconds:
            self._seconds[length, size] += LEARNT * (seconds - self._seconds[length, size])
        for item, answer in zip(items, answers, strict=True):
            if item.ticket.batches is not None:
                item.ticket.batches[begun] = seconds, len(items), size
            if isinstance(answer, Ended):
                item.ticket.fail(refused(answer))
            elif isinstance(answer, Exception):
                item.ticket.fail(Refused(500, "failed", "the model could not be computed for this record."))
            else:
                item.ticket.give(item.place, answer)
        self._observe(len(items), size, seconds)
        self._consider()
