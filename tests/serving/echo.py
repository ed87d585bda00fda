"""The connection of the server before an application that tells what it was asked: no model, no process."""

import asyncio
import functools
import json
import logging
import socket
import threading
import time

import uvicorn

from suite.serving.connection import Connection
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings


async def tell(scope, receive, send):
    """Answers with method, path and body of the request; `/slow` after a moment, `/deaf` without reading the body."""
    body, more = b"", not scope["path"].startswith("/deaf")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    if scope["path"].startswith("/slow"):
        await asyncio.sleep(0.3)
    told = {"method": scope["method"], "path": scope["path"], "body": body.decode("latin-1")}
    answer = json.dumps(told).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Echo:
    """Answers on a port of its own, in a thread, until it is left."""

    def __init__(self, **settings):
        self.monitor = Monitor((1,))
        protocol = functools.partial(Connection, settings=Settings(**settings), monitor=self.monitor)
        how = {"lifespan": "off", "ws": "none", "loop": "uvloop", "interface": "asgi3", "log_config": None}
        self._server = uvicorn.Server(
            uvicorn.Config(tell, http=protocol, access_log=False, log_level=logging.ERROR, server_header=False, **how)
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self):
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def open(self):
        """Connections that the server holds."""
        return len(self._server.server_state.connections)

    @property
    def waiting(self):
        """Requests that wait for their turn on the connection that has most of them."""
        return max((len(each.pipeline) for each in list(self._server.server_state.connections)), default=0)

    def raw(self, *parts, pause=0.02, timeout=10):
        """All that comes back for bytes sent as they are, until the server closes or says nothing for a moment."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as made:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            try:
                for place, part in enumerate(parts):
                    if place:
                        time.sleep(pause)
                    made.sendall(part)
                while chunk := made.recv(1 << 16):
                    received += chunk
            except TimeoutError:
                received += b"<open>"
            except ConnectionError:
                received += b"<reset>"
            return received


def answers(received):
    """(status, JSON) of each answer."""
    made = []
    while received.startswith(b"HTTP/1.1 "):
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(lines.get(b"content-length", b"0"))
        made.append((int(head[9:12]), json.loads(rest[:length] or b"null")))
        received = rest[length:]
    assert received in (b"", b"<open>", b"<reset>"), received[:200]
    return made
