"""uvicorn around the application: signals, the end of listening, and what is still answered after it."""

import asyncio
import functools
import logging
import signal
import socket
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn

from suite.errors import InputError, RunError
from suite.serving.address import is_local, listen, url
from suite.serving.app import Gate, Server
from suite.serving.connection import Connection
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.tracing import Tracing, open_tracing

log = logging.getLogger("suite.serving")


def run(bundles: Sequence[str], settings: Settings, token: str, admin: str = "") -> None:
    """Open ``bundles``, answer requests, return when asked to stop. See `suite.serving.server.serve`."""
    tracing = open_tracing() if settings.trace else None
    monitor = Monitor(settings.sizes)
    models = Models(bundles, settings, monitor)
    failures: list[Exception] = []
    try:
        models.open()
        _listen_and_answer(models, settings, monitor, (token, admin), failures, tracing)
    finally:
        models.let_go()
        if tracing is not None:
            tracing.close()
    if failures and isinstance(failures[0], InputError):
        raise failures[0]
    if failures:
        raise RunError(f"the models cannot be compiled: {failures[0]}") from failures[0]


def _listen_and_answer(
    models: Models,
    settings: Settings,
    monitor: Monitor,
    tokens: tuple[str, str],
    failures: list[Exception],
    tracing: Tracing | None,
) -> None:
    token, admin = tokens
    bound = listen(settings.host, settings.port)
    local = is_local(bound)
    if not token and not local:
        log.warning("%s is reached from other machines, and asks for no token (--token-file)", url(bound))
    server = Server(models, settings, monitor, token, local, lambda: _say_ready(models, bound), failures.append)
    server.tracing, server.admin = tracing, admin
    stopping = _Uvicorn(server, failures)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it has obeyed it
        signal.signal(number, stopping.handle_exit)
    stopping.run(sockets=[bound])


def _say_ready(models: Models, bound: socket.socket) -> None:
    names = ", ".join(
        f"{name} {model.current.bundle.version}" for name, model in models.by_name.items() if model.current
    )
    print(f"serving {names} at {url(bound)}", flush=True)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which tells the application when it is asked to stop, and waits for what was accepted."""

    def __init__(self, server: Server, failures: list[Exception]):
        settings = server.settings
        self._server, self._failures = server, failures
        self._looking: asyncio.Task[None] | None = None
        protocol: Any = functools.partial(
            Connection, settings=settings, monitor=server.monitor
        )  # called as the class would be
        super().__init__(
            uvicorn.Config(
                Gate(server),
                http=protocol,
                ws="none",
                lifespan="on",
                loop="uvloop",
                interface="asgi3",
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=max(settings.max_connections, 128),
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=int(settings.drain_s) + 2,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._look)

    def _look(self) -> None:
        self._looking = asyncio.create_task(self._server.models.look(at_once=True))

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or bool(self._failures)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._server.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nothing new is accepted; what waits longer than ``drain_s`` is told so."""
        log.info(
            "stopping: no new connections; what was accepted is answered for at most %g s",
            self._server.settings.drain_s,
        )
        why = "the server is stopping."
        late = asyncio.get_running_loop().call_later(self._server.settings.drain_s, self._server.models.close, why)
        await super().shutdown(sockets)
        late.cancel()
        log.info("stopped")
