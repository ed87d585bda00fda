"""A load generator for HTTP: keep-alive connections, closed or open loop, in a process of its own.

    python -m benchmarks.load TARGET.json        # what `benchmarks.serving` writes; prints one line of JSON

TARGET.json: host, port, path, bodies (list of texts), clients, and requests (how many) or seconds; rate (requests a
second, arriving at random) makes it an open loop; answers: keep them, by the place of their body.

Only statuses of 200 count as answers, in rate and latencies; `codes` has the others.
A request counts as lost where its connection ended without an answer to it. Where nobody listens, the client waits and
tries again: nothing was sent.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from typing import Any

import uvloop

RETRY_SECONDS = 0.05


class Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[tuple[int, bytes, bool] | None] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        small = head.lower()
        start = small.index(b"content-length: ") + 16
        length = int(small[start : start + 12].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._data = body[length:]
        self._end((int(head[9:12]), body[:length], b"connection: close" in small))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end(None)

    def _end(self, made: tuple[int, bytes, bool] | None) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(made)

    async def ask(self, request: bytes) -> tuple[int, bytes, bool] | None:
        """Status, body, and whether the connection ends with it; None where it ended before."""
        self.waiter = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(request)
        return await self.waiter


class Load:
    """What is asked, and what came of it."""

    def __init__(self, target: dict[str, Any]):
        self.target = target
        head = f"POST {target['path']} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        bodies = [json.dumps({"inputs": [text]}, ensure_ascii=False).encode() for text in target["bodies"]]
        self.requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self.seconds: list[float] = []
        self.codes: Counter[int] = Counter()
        self.lost = 0
        self.answers: list[tuple[int, str]] = []
        self._next = 0
        self._until = time.perf_counter() + target.get("seconds", 1e9)

    def take(self) -> int | None:
        """The number of the next request; None when there are no more."""
        if self._next >= self.target.get("requests", 10**12) or time.perf_counter() >= self._until:
            return None
        self._next += 1
        return self._next - 1

    async def connected(self, client: Client | None) -> Client:
        """An open connection, this one if it is."""
        if client is not None and client.transport is not None and not client.transport.is_closing():
            return client
        while True:
            try:
                loop = asyncio.get_running_loop()
                _, made = await loop.create_connection(Client, self.target["host"], self.target["port"])
                return made
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)

    async def one(self, client: Client | None, number: int, begun: float) -> Client | None:
        """Ask until there is an answer that is no refusal for the moment's sake."""
        place = number % len(self.requests)
        while True:
            client = await self.connected(client)
            made = await client.ask(self.requests[place])
            if made is None:
                self.lost += 1
                client = None
                continue
            status, body, closes = made
            self.codes[status] += 1
            if closes:
                if client.transport is not None:
                    client.transport.close()
                client = None
            if status in (429, 503):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if status == 200:  # a refusal is made faster than an answer, and would count as one
                self.seconds.append(time.perf_counter() - begun)
            if self.target.get("answers"):
                self.answers.append((place, body.decode()))
            return client

    async def closed(self) -> None:
        """Each client asks, waits, and asks again."""
        client: Client | None = None
        while (number := self.take()) is not None:
            client = await self.one(client, number, time.perf_counter())

    async def open(self) -> None:
        """Requests come when they come, whether earlier ones have been answered or not."""
        rng, idle, tasks = random.Random(0), deque[Client | None](), set()
        due = time.perf_counter()

        async def ask(number: int, begun: float) -> None:
            idle.append(await self.one(idle.popleft() if idle else None, number, begun))

        while (number := self.take()) is not None:
            due += rng.expovariate(self.target["rate"])
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            task = asyncio.create_task(ask(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)


async def run(target: dict[str, Any]) -> dict[str, Any]:
    """All of it; see the module."""
    load, begun = Load(target), time.perf_counter()
    if "rate" in target:
        await load.open()
    else:
        await asyncio.gather(*(load.closed() for _ in range(target["clients"])))
    wall = time.perf_counter() - begun
    found = sorted(load.seconds)
    quantile = lambda q: 1e3 * found[min(int(q * len(found)), len(found) - 1)] if found else float("nan")
    return {
        "answered": len(found),
        "rate": len(found) / wall,
        "seconds": wall,
        "p50": quantile(0.5),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
        "max": quantile(1.0),
        "lost": load.lost,
        "codes": dict(load.codes),
        "answers": load.answers,
    }


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(json.dumps(uvloop.run(run(json.load(file)))))
