"""The addresses: who may come in, what answers, and the pages; everything that is not the path of an answer."""

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from suite.bundles.manifest import PREDICT
from suite.serving import monitoring, openapi
from suite.serving.admission import Admission
from suite.serving.catalogues import Catalogues
from suite.serving.descriptions import brief, full
from suite.serving.errors import Headers, Refused, encoded, failed, of_each
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.open_inference.protocol import OPEN_INFERENCE
from suite.serving.open_inference.routes import add_routes
from suite.serving.predict_endpoint import COMMON, Answering, refuse
from suite.serving.predict_protocol import PREDICT_PROTOCOL
from suite.serving.protocol import JSON, Protocol
from suite.serving.rates import Rates
from suite.serving.request_body import Body, Receive, Scope, Send
from suite.serving.settings import Settings
from suite.serving.tracing import TRACE, Tracing

ASKED = re.compile(r"/v1/models/(?P<model>[^/]+?)[:/](?P<program>[^/:]+)")
"""Where a program of a model is asked: ``/v1/models/MODEL:PROGRAM``, or a slash in place of the colon."""
CATALOGUE = re.compile(r"/v1/models/(?P<model>[^/:]+)/catalogue")
"""Where the catalogue of a model is put."""
INFER = re.compile(r"/v2/models/(?P<model>[^/:]+)(:(?P<program>[^/:]+))?(/versions/(?P<number>[^/]+))?/infer")
"""The same by the Open Inference Protocol: ``/v2/models/MODEL/infer`` asks the default program."""
PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
PAGES = {"index.html": "/", "docs.html": "/docs"}
"""Addresses of pages; their other files stand under /page/."""
OPEN = {*PAGES.values(), "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
"""Addresses that need no token: pages hold nothing, and ask for one themselves. So do their files, under /page/."""
SECURITY: Headers = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; media-src data: blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
"""Headers of everything that a browser may show."""

log = logging.getLogger("suite.serving")


@dataclass(eq=False)
class Server:
    """What the addresses are about.

    Attributes:
        models: what is served.
        settings: the limits.
        monitor: what is counted.
        token: that requests must carry; empty: none.
        local: whether only this machine reaches it.
        begun: called once all models are warm.
        failed: called with what kept them from it.
        draining: whether the server has been asked to stop.
        tracing: begins traces; None: there are none.
        admin: token that requests which change what is served must carry; empty: none may.
    """

    models: Models
    settings: Settings
    monitor: Monitor
    token: str
    local: bool
    begun: Callable[[], None]
    failed: Callable[[Exception], None]
    draining: bool = False
    tracing: Tracing | None = None
    admin: str = ""


class Gate:
    """The application: checks who asks, and parts requests for answers from all others.

    Args:
        server: what it is about.
    """

    def __init__(self, server: Server):
        self._server = server
        self._admission = Admission(server.token, server.local, server.settings.hosts, server.admin)
        settings = server.settings
        self._rates = Rates(settings.rate, settings.most_at_once, settings.client_header) if settings.rate else None
        self._answering = Answering(server.models, server.settings, server.monitor)
        self._catalogues = Catalogues(server.models, server.settings, self._answering.held)
        self._others = _others(server, self._answering)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, by ASGI."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        path, begun = scope["path"], time.perf_counter()
        protocol = protocol_of(path)
        put = CATALOGUE.fullmatch(path) if scope["method"] == "PUT" else None
        match = None if put else (ASKED if protocol is PREDICT_PROTOCOL else INFER).fullmatch(path)
        asked = (match["model"], match["program"] or PREDICT) if match else None
        if asked and self._server.tracing is not None:
            scope[TRACE] = self._server.tracing.begin(scope, *asked)
        open_to_all = path in OPEN or path.startswith("/page/")
        refusal = None
        try:
            if self._rates is not None and not open_to_all:
                self._check_rate(self._rates, scope)
            self._admission.check(scope, open_to_all, changes=put is not None)
            if asked and scope["method"] != "POST":
                raise Refused(
                    405, "method_not_allowed", f"{scope['method']} is not understood here.", allow="POST", fix="POST"
                )
        except Refused as error:
            refusal = error
        except Exception:
            log.exception("a request for %s failed", path)
            refusal = failed()
        if refusal is not None:
            await refuse(send, refusal, Body(scope, receive, self._server.settings, self._answering.held), protocol)
            if asked:
                self._answering.count(*asked, refusal.status, begun, scope.get(TRACE))
            return
        if match and asked:
            number = match.groupdict().get("number") or ""
            await self._answering(*asked, scope, receive, send, protocol, number)
        elif put:
            await self._catalogues(put["model"], scope, receive, send)
        else:
            try:
                await self._others(scope, receive, _shielded(send))
            except Exception:  # raised again once it has been answered
                log.exception("a request for %s failed", path)

    def _check_rate(self, rates: Rates, scope: Scope) -> None:
        try:
            rates.check(scope)
        except Refused:
            self._server.monitor.rate_limited()
            raise


def protocol_of(path: str) -> Protocol:
    """What requests for ``path`` are written in, and why they are refused."""
    return OPEN_INFERENCE if path == "/v2" or path.startswith("/v2/") else PREDICT_PROTOCOL


def _shielded(send: Send) -> Send:
    """``send`` with the headers that keep a page to itself."""

    async def with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            more = [header for header in (*COMMON, *SECURITY) if header[0] not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return with_headers


def _others(server: Server, answering: Answering) -> FastAPI:
    """Everything but answers."""
    off = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

    def answer(content: Any) -> Response:
        return Response(encoded(content), media_type=JSON.decode())

    app = FastAPI(
        title="suite serve",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lambda app: _running(server),
        telemetry=off,  # type: ignore[arg-type]
    )
    app.add_exception_handler(HTTPException, _unknown)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _failed)
    models, settings = server.models, server.settings

    @app.get("/healthz")
    def alive() -> Any:
        return {"status": "alive"}

    def why_not_ready() -> str:
        if models.ready and not server.draining:
            return ""
        return "the server is stopping." if server.draining else f"{models.progress or 'models are being compiled'}."

    @app.get("/readyz")
    async def ready() -> Any:
        why = why_not_ready()
        return _json(Refused(503, "not_ready", why, retry=1)) if why else {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        now = {name: model.current for name, model in models.by_name.items() if model.current}
        batchers = {
            (name, program): endpoint.batcher
            for name, version in now.items()
            for program, endpoint in version.endpoints.items()
        }
        text = server.monitor.text(
            versions={name: version.bundle.version for name, version in now.items()},
            engines={
                (name, program): endpoint.program.engine
                for name, version in now.items()
                for program, endpoint in version.endpoints.items()
            },
            catalogues={name: about["records"] for name, version in now.items() if (about := version.bundle.catalogue)},
            refused={name: model.error is not None for name, model in models.by_name.items()},
            waiting={names: batcher.waiting for names, batcher in batchers.items()},
            computing={names: batcher.computing for names, batcher in batchers.items()},
            in_flight=answering.in_flight,
            held=answering.held.bytes,
            ready=models.ready,
        )
        return Response(text, media_type=monitoring.TYPE)

    @app.get("/v1/models")
    async def listed() -> Any:
        described, others = of_each(models.by_name, brief)
        names = {
            name: described.get(name) or {"name": name, "ready": model.current is not None}
            for name, model in models.by_name.items()
        }
        return answer({"models": list(names.values()), **({"undescribed": others} if others else {})})

    @app.get("/v1/models/{name}")
    async def described(name: str) -> Any:
        try:
            return answer(full(models, name, settings))
        except Refused as error:
            return _json(error)

    @app.get("/openapi.json")
    async def schema() -> Any:
        now = {name: model.current for name, model in models.by_name.items() if model.current}
        return answer(openapi.describe(now, settings, bool(server.token), bool(server.admin)))

    add_routes(app, models, why_not_ready)
    for path, content, media in page_files():
        app.add_route(path, _file(content, media), methods=["GET"])
    return app


@contextlib.asynccontextmanager
async def _running(server: Server) -> AsyncIterator[None]:
    """Models are warmed, and watched, while the server runs."""
    tasks = [asyncio.create_task(_warm(server)), asyncio.create_task(_watch(server.models, server.settings.watch_s))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await server.models.stop()


async def _warm(server: Server) -> None:
    try:
        await server.models.warm()
    except Exception as error:
        server.failed(error)
        return
    server.begun()


async def _watch(models: Models, every: float) -> None:
    """New versions are looked for every so many seconds, where these are not 0; what cannot be served is tended."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(min(every or 1.0, 1.0))
        await models.tend()
        if every and time.monotonic() - looked >= every:
            await models.look()
            looked = time.monotonic()


def page_files() -> list[tuple[str, bytes, str]]:
    """Address, content and media type of each file of the page."""
    files = sorted(path for path in PAGE.iterdir() if path.suffix in TYPES)
    return [(PAGES.get(path.name, f"/page/{path.name}"), path.read_bytes(), TYPES[path.suffix]) for path in files]


def _file(content: bytes, media: str) -> Callable[[Request], Response]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media, headers=headers)

    return answer  # type: ignore[return-value]


async def _failed(request: Request, error: Exception) -> Response:
    """The server made a mistake."""
    return _json(failed(), request.url.path)


def _json(error: Refused, path: str = "") -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(protocol_of(path).refusal(error), error.status, headers, JSON.decode())


async def _unknown(request: Request, error: HTTPException) -> Response:
    """No such address, or no such method there."""
    path = request.url.path
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET")
        message = f"{request.method} is not understood here."
        return _json(Refused(405, "method_not_allowed", message, allow=allow, fix=allow), path)
    code = "not_found" if error.status_code == 404 else "refused"
    message = f'there is no address "{path[:200]}".' if error.status_code == 404 else f"{error.detail}."
    return _json(Refused(error.status_code, code, message, fix="/openapi.json"), path)
