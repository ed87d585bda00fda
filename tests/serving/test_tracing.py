"""Traces of requests: a span each with its steps, in the client's trace, sent by OTLP over HTTP."""

import asyncio
import http.server
import json
import threading

import pytest

from suite.errors import InputError
from suite.serving.app import Gate, Server
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.tracing import Tracing, open_tracing
from tests.serving.asking import Serving

PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
STEPS = ["read", "encode", "wait", "compute", "answer"]


@pytest.fixture(scope="module")
def asked(bundles):
    """(path, content, headers) of each request -> its spans, by a server in this process."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    settings = Settings(sizes=(1, 2))

    async def one(gate, path, content, headers):
        body, sent = json.dumps(content).encode(), []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost:80"), (b"content-type", b"application/json"), *headers],
        }
        await gate(scope, receive, send)
        made = spans.get_finished_spans()
        spans.clear()
        return sent[0]["status"], made

    def ask(*requests):
        async def run():
            monitor = Monitor(settings.sizes)
            models = Models([str(bundles["words"])], settings, monitor)
            models.open()
            try:
                await models.warm()
                server = Server(models, settings, monitor, "", True, lambda: None, lambda error: None)
                server.tracing = Tracing(provider)
                gate = Gate(server)
                return [await one(gate, *request) for request in requests]
            finally:
                models.let_go()

        return asyncio.run(run())

    return ask


def test_a_request_is_a_span_and_its_steps_are_its_children(asked):
    v1, v2 = "/v1/models/words:predict", "/v2/models/words/infer"
    tensor = {"name": "review", "shape": [1], "datatype": "BYTES", "data": ["a film"]}
    parent = [(b"traceparent", PARENT.encode())]
    unsampled = [(b"traceparent", PARENT[:-1].encode() + b"0")]
    answered, infer, wrong, unknown, silent = asked(
        (v1, {"inputs": ["a film", "a fine film", "a dull film"]}, parent),
        (v2, {"inputs": [tensor]}, []),
        (v1, {"inputs": [3]}, []),
        ("/v1/models/wards:predict", {"inputs": [3]}, []),
        (v1, {"inputs": ["a film"]}, unsampled),
    )
    status, spans = answered
    (server,) = [span for span in spans if span.name.startswith("POST")]
    children = sorted((span for span in spans if span is not server), key=lambda span: (span.start_time, span.end_time))
    assert status == 200 and f"{server.context.trace_id:032x}" == PARENT[3:35]
    assert f"{server.parent.span_id:016x}" == PARENT[36:52] and server.kind.name == "SERVER"
    assert list(dict.fromkeys(span.name for span in children)) == STEPS
    assert all(span.parent.span_id == server.context.span_id for span in children)
    assert server.start_time <= children[0].start_time and children[-1].end_time <= server.end_time
    ends = [span.end_time for span in children]
    assert all(later.start_time >= end - 1_000_000 for later, end in zip(children[1:], ends, strict=False))
    batches = [span.attributes for span in children if span.name == "compute"]
    assert sum(batch["suite.batch.records"] for batch in batches) == 3, "two batches of at most two"
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:{program}",
        "url.path": v1,
        "http.response.status_code": 200,
        "server.address": "localhost",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "suite.model": "words",
        "suite.records": 3,
    }
    assert expected.items() <= dict(server.attributes).items() and server.status.status_code.name == "UNSET"
    assert infer[0] == 200 and {span.name for span in infer[1]} == {*STEPS, "POST /v2/models/{model}/infer"}
    assert wrong[0] == 400 and [span.name for span in wrong[1]][:2] == ["read", "encode"] and len(wrong[1]) == 3
    assert unknown[0] == 404 and [span.attributes["http.response.status_code"] for span in unknown[1]] == [404]
    assert silent == (200, ())


class Receiver(http.server.BaseHTTPRequestHandler):
    """An OTLP collector, as far as a test needs one."""

    def do_POST(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_spans_are_sent_where_the_variables_say(bundles):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as collector:
        collector.received = []
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "films",
        }
        with Serving(bundles["words"], "--sizes", "1", "--trace", **variables) as server:
            assert server.post("words", {"inputs": ["a film"]}, traceparent=PARENT)[0] == 200
            assert server.stop() == 0, "what was not sent yet is sent at the end"
        collector.shutdown()
    spans, services = [], []
    for path, export in collector.received:
        assert path == "/v1/traces"
        for resource in export.resource_spans:
            services += [item.value.string_value for item in resource.resource.attributes if item.key == "service.name"]
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    assert set(services) == {"films"}
    assert {span.name for span in spans} == {*STEPS, "POST /v1/models/{model}:{program}"}
    assert {span.trace_id.hex() for span in spans} == {PARENT[3:35]}


def test_a_variable_that_cannot_be_followed(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(InputError, match="names no exporter"):
        open_tracing()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InputError, match="names no transport") as error:
        open_tracing()
    assert error.value.fix == "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


def test_the_extra_is_asked_for(monkeypatch):
    from suite.serving import tracing

    monkeypatch.setattr(tracing, "_is_there", lambda name: "otlp" not in name)
    with pytest.raises(InputError, match="needed to trace") as error:
        open_tracing()
    assert "[trace]" in error.value.fix
