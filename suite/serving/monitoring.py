"""Prometheus metrics of the server, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from suite.serving.batching import Observe

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the latency histogram's buckets, in seconds."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of what ``Monitor.text`` returns."""


class Monitor:
    """Counts requests and batches.

    Args:
        sizes: batch sizes, the buckets of the histogram of records a batch.
    """

    def __init__(self, sizes: tuple[int, ...]):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "suite_requests",
            "Requests for answers, by model, program and status; 499: the client left.",
            ("model", "program", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "suite_request_seconds",
            "From the head of a request to its answer.",
            ("model", "program"),
            buckets=LATENCIES,
            registry=registry,
        )
        self._records = Histogram(
            "suite_batch_records",
            "Records a batch, without those that fill it up.",
            ("model", "program"),
            buckets=sizes,
            registry=registry,
        )
        self._padding = Counter(
            "suite_batch_padding", "Empty records that filled up batches.", ("model", "program"), registry=registry
        )
        self._computing = Counter(
            "suite_batch_seconds", "Seconds in which batches were computed.", ("model", "program"), registry=registry
        )
        self._swaps = Counter(
            "suite_swaps",
            "New versions, by whether they answer now, were refused, or are tried again.",
            ("model", "result"),
            registry=registry,
        )
        self._rated = Counter("suite_rate_limited", "Requests beyond the rate of their client.", registry=registry)
        self._connections = Counter(
            "suite_connections_refused",
            "Connections that ended with a refusal of what they are or sent, before any address was asked, by reason.",
            ("code",),
            registry=registry,
        )
        self._version = Gauge(
            "suite_model_info", "1 for the version that answers.", ("model", "version"), registry=registry
        )
        self._engine = Gauge(
            "suite_program_info", "1 for the engine that computes.", ("model", "program", "engine"), registry=registry
        )
        self._catalogue = Gauge(
            "suite_catalogue_records", "Records that requests are compared with.", ("model",), registry=registry
        )
        self._refused = Gauge(
            "suite_model_refused", "Whether the newest version is not served.", ("model",), registry=registry
        )
        self._computing_for = Gauge(
            "suite_batch_age_seconds",
            "For which the batch at work is computed.",
            ("model", "program"),
            registry=registry,
        )
        self._waiting = Gauge("suite_queue_records", "Records that wait.", ("model", "program"), registry=registry)
        self._in_flight = Gauge("suite_requests_in_flight", "Requests being read or answered.", registry=registry)
        self._held = Gauge("suite_held_bytes", "Bytes of requests being read or answered.", registry=registry)
        self._ready = Gauge("suite_ready", "Whether all models answer.", registry=registry)
        ProcessCollector(registry=registry)
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._latencies: dict[tuple[str, str], Histogram] = {}

    def request(self, model: str, program: str, code: int, seconds: float) -> None:
        """A request has been answered, or not."""
        key = (model, program, code)
        if key not in self._counters:
            self._counters[key] = self._requests.labels(model, program, str(code))
        self._counters[key].inc()
        if (model, program) not in self._latencies:
            self._latencies[model, program] = self._seconds.labels(model, program)
        self._latencies[model, program].observe(seconds)

    def rate_limited(self) -> None:
        """A request was refused, since its client has made too many."""
        self._rated.inc()

    def connection_refused(self, code: str) -> None:
        """A connection was refused, or what it sent is no request: the code that its client was told."""
        self._connections.labels(code).inc()

    def batches(self, model: str, program: str) -> Observe:
        """What a program's queue tells of its batches."""
        records, padding = self._records.labels(model, program), self._padding.labels(model, program)
        computing = self._computing.labels(model, program)

        def observe(count: int, size: int, seconds: float) -> None:
            records.observe(count)
            padding.inc(size - count)
            computing.inc(seconds)

        return observe

    def swapped(self, model: str, result: str) -> None:
        """A new version was put in place of the one before, "done"; or is not served: "refused", or "postponed" where
        it is tried again."""
        self._swaps.labels(model, result).inc()

    def text(
        self,
        *,
        versions: dict[str, str],
        engines: dict[tuple[str, str], str],
        catalogues: dict[str, int],
        refused: dict[str, bool],
        waiting: dict[tuple[str, str], int],
        computing: dict[tuple[str, str], float],
        in_flight: int,
        held: int,
        ready: bool,
    ) -> bytes:
        """All of it, in Prometheus's text format.

        Args:
            versions: model -> the version that answers.
            engines: (model, program) -> what computes it.
            catalogues: model -> records of its catalogue, where it has one that can be replaced.
            refused: model -> whether its newest version is not served.
            waiting: (model, program) -> records that wait.
            computing: (model, program) -> seconds for which the batch at work has been computed.
            in_flight: requests being read or answered.
            held: their bytes.
            ready: whether all models answer.
        """
        self._version.clear()
        for model, version in versions.items():
            self._version.labels(model, version).set(1)
        self._engine.clear()
        for names, engine in engines.items():
            self._engine.labels(*names, engine).set(1)
        self._catalogue.clear()
        for model, records in catalogues.items():
            self._catalogue.labels(model).set(records)
        for model, problem in refused.items():
            self._refused.labels(model).set(problem)
        self._computing_for.clear()
        for names, seconds in computing.items():
            self._computing_for.labels(*names).set(seconds)
        self._waiting.clear()
        for names, count in waiting.items():
            self._waiting.labels(*names).set(count)
        self._in_flight.set(in_flight)
        self._held.set(held)
        self._ready.set(ready)
        return generate_latest(self._registry)
