"""Traces of requests for answers, by OpenTelemetry (extra ``trace``): a span a request, and one for each of its steps:
read, encode, wait, compute, answer.

The variables OTEL_* say where spans go, what the service is called, which share is sampled, and how the context of a
client is read, by default from ``traceparent`` (W3C Trace Context). Attributes are those of the semantic conventions
for HTTP.
"""

import importlib.util
import os
import time
from collections.abc import Mapping
from typing import Any

from suite.distribution import missing, version
from suite.errors import InputError
from suite.serving.batching import GONE, Batches
from suite.serving.request_body import Scope

TRACE = "suite.trace"
"""Key of the scope: the trace of the request, where it has one."""
SERVICE = "suite-serve"
"""Name of the service, where no variable says another."""
_ROUTES = {"/v1/": "/v1/models/{model}:{program}", "/v2/": "/v2/models/{model}/infer"}
_EXPORTER, _TRANSPORT = "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"


class Trace:
    """The span of one request, and of the step that it is at.

    Args:
        tracer: makes spans.
        span: of the request.
        offset: nanoseconds between the clock of `time.perf_counter` and that of spans.
    """

    def __init__(self, tracer: Any, span: Any, offset: int):
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._span, self._offset = tracer, span, offset
        self._within = set_span_in_context(span)
        self._step: Any = None

    def say(self, **attributes: Any) -> None:
        """Attributes of the request: ``suite.NAME``."""
        self._span.set_attributes({f"suite.{name}": value for name, value in attributes.items()})

    def step(self, name: str) -> None:
        """A step begins, and with it the one before ends."""
        now = self._at(time.perf_counter())
        self._end_step(now)
        self._step = self._tracer.start_span(name, self._within, start_time=now)

    def computed(self, batches: Batches) -> None:
        """The step that is being waited in ended with the first of the batches that computed the records."""
        if batches:
            self._end_step(self._at(min(batches)))
        for begun, (seconds, records, size) in batches.items():
            about = {"suite.batch.records": records, "suite.batch.size": size}
            span = self._tracer.start_span("compute", self._within, attributes=about, start_time=self._at(begun))
            span.end(self._at(begun + seconds))

    def end(self, status: int) -> None:
        """The request is over, answered with this status of HTTP."""
        from opentelemetry.trace import Status, StatusCode

        now, failed = self._at(time.perf_counter()), status >= 500 or status == GONE
        if status != GONE:
            self._span.set_attribute("http.response.status_code", status)
        if failed:
            self._span.set_attribute("error.type", "client_gone" if status == GONE else str(status))
            for span in filter(None, (self._span, self._step)):
                span.set_status(Status(StatusCode.ERROR))
        self._end_step(now)
        self._span.end(now)

    def _end_step(self, now: int) -> None:
        if self._step is not None:
            self._step.end(now)
            self._step = None

    def _at(self, seconds: float) -> int:
        return int(seconds * 1e9) + self._offset


class Tracing:
    """Begins traces.

    Args:
        provider: OpenTelemetry's, which samples spans and sends them.
    """

    def __init__(self, provider: Any):
        self._provider = provider
        self._tracer = provider.get_tracer("suite.serving", version())

    def begin(self, scope: Scope, model: str, program: str) -> Trace | None:
        """The trace of a request for a program of a model, there or not; None where it is not sampled."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route, offset = _ROUTES[scope["path"][:4]], time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            f"{scope['method']} {route}", extract(headers), SpanKind.SERVER, _attributes(scope, headers, route)
        )
        if not span.is_recording():
            return None
        trace = Trace(self._tracer, span, offset)
        trace.say(model=model[:100], program=program[:100])
        return trace

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(scope: Scope, headers: Mapping[str, str], route: str) -> dict[str, Any]:
    host, _, port = headers.get("host", "").rpartition(":")
    if not host or not port.isdigit():
        host, port = headers.get("host", ""), ""
    attributes = {
        "http.request.method": scope["method"],
        "http.route": route,
        "url.path": scope["path"][:1000],
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", ""),
        "client.address": str(scope["client"][0]) if scope.get("client") else "",
        "user_agent.original": headers.get("user-agent", "")[:1000],
        "server.address": host[:255],
        "server.port": int(port[:5]) if port else "",
    }
    return {name: value for name, value in attributes.items() if value != ""}


def open_tracing() -> Tracing:
    """Tracing as the variables OTEL_* say.

    Raises:
        InputError: the extra is missing, or a variable asks for an exporter or a transport that is none here.
    """
    names = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if any(not _is_there(name) for name in names):
        raise missing("opentelemetry-sdk, opentelemetry-exporter-otlp-proto-http", "to trace", "trace")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporters: dict[str, type[SpanExporter] | None] = {
        "otlp": OTLPSpanExporter,
        "console": ConsoleSpanExporter,
        "none": None,
    }
    kind = os.environ.get(_EXPORTER, "").strip().lower() or "otlp"
    if kind not in exporters:
        raise InputError(f"variable {_EXPORTER}", "names no exporter.", found=kind, fix=f"export {_EXPORTER}=otlp")
    transport = os.environ.get(_TRANSPORT, "").strip().lower() or "http/protobuf"
    if kind == "otlp" and transport != "http/protobuf":
        fix = f"export {_TRANSPORT}=http/protobuf"
        raise InputError(f"variable {_TRANSPORT}", "names no transport of this server.", found=transport, fix=fix)
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporter := exporters[kind]:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    return Tracing(provider)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a package that it lies in
        return False
