"""The load generator of the benchmarks: what it counts as an answer."""

import asyncio

import pytest

pytest.importorskip("uvloop", reason="the extra serve is not installed")


def test_a_refusal_is_no_answer():
    """One text of three is refused: the rate is that of answers, and the others are told by status."""
    from benchmarks.load import run

    async def serve(reader, writer):
        for _ in range(6):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            status = b"400 Bad Request" if b"bad" in body else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

    async def made():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await run(
            {"host": "127.0.0.1", "port": port, "path": "/", "bodies": ["a", "bad", "b"], "clients": 1, "requests": 6}
        )
        server.close()
        return found

    found = asyncio.run(made())
    assert found["answered"] == 4 and found["codes"] == {200: 4, 400: 2}
    assert found["rate"] == pytest.approx(4 / found["seconds"])
