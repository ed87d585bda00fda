"""Settings of the server: each field is a flag of ``suite serve``."""

import math
import re
from dataclasses import dataclass, field, fields
from typing import get_args

from suite.contracts.engine import Engine
from suite.errors import InputError

MIB = 1 << 20
HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")

HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{0,100}")
_MAY_BE_ZERO = {"port", "max_wait_ms", "watch_s", "drain_s", "warm_bytes", "rate", "burst", "trace"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where to listen, how to group requests, and what a request may ask for."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all of this machine's."""
    port: int = 8080
    """Port to listen at; 0: any that is free."""
    token_file: str = field(default="", metadata={"value": "FILE", "example": "token.txt", "otherwise": "SUITE_TOKEN"})
    """File with the bearer token that requests must carry; else the variable SUITE_TOKEN, else none is asked for."""
    admin_token_file: str = field(
        default="", metadata={"value": "FILE", "example": "admin.txt", "otherwise": "nothing is changed by requests"}
    )
    """File with the bearer token of requests that change what is served: PUT /v1/models/NAME/catalogue."""
    hosts: tuple[str, ...] = field(default=(), metadata={"value": "NAME", "example": "models.example.org"})
    """Names that the server is called by, besides localhost and addresses; others are refused. None given: of a server
    for this machine without a token no other, else any."""
    allow: tuple[str, ...] = field(default=(), metadata={"value": "PACKAGE", "example": "my_package"})
    """Packages whose classes the codecs of the bundles may name, besides the suite's."""
    trust: str = field(
        default="", metadata={"value": "KEYS", "example": "keys", "otherwise": "bundles need not be signed"}
    )
    """Public keys, a PEM file or a folder of them: bundles that none of them has signed are refused."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Batch sizes that are compiled before the server is ready."""
    engine: Engine = "auto"
    """What computes on a processor, for bundles with models in ONNX; auto: the fastest engine that is installed."""
    max_wait_ms: float = 2.0
    """Milliseconds that a record waits for others at most, where several clients ask at a time."""
    queue: int = 256
    """Records of one model that may wait; more are refused with 429."""
    deadline_s: float = 30.0
    """Seconds in which a request is answered, else 504; a request may ask for fewer with X-Request-Timeout."""
    max_body_bytes: int = 16 * MIB
    """Bytes of one request."""
    max_held_bytes: int = 256 * MIB
    """Bytes of all requests that are being read or answered; more are refused with 429."""
    max_records: int = 64
    """Records of one request."""
    max_characters: int = 20_000
    """Characters of one text."""
    max_pixels: int = 25_000_000
    """Pixels of one image, by its header."""
    max_seconds: float = 60.0
    """Seconds of one recording, by its header."""
    decoder_s: float = 5.0
    """Seconds of processor time in which a picture or recording is decoded; the decoder of a slower one is ended."""
    max_connections: int = 512
    """Connections that are open at a time; more are refused with 503."""
    head_s: float = 10.0
    """Seconds in which the head of a request must have come."""
    body_s: float = 30.0
    """Seconds in which the body of a request must have come."""
    keep_alive_s: int = 60
    """Seconds that a connection may stay open without a request."""
    drain_s: float = 30.0
    """Seconds that a server which is asked to stop takes for what it has accepted."""
    rate: float = field(default=0.0, metadata={"example": "20", "otherwise": "no limit"})
    """Requests a second that one client may make; more are refused with 429."""
    burst: int = field(default=0, metadata={"example": "40", "otherwise": "those of two seconds"})
    """Requests that a client with a --rate may make at once."""
    client_header: str = field(
        default="", metadata={"value": "NAME", "example": "X-Forwarded-For", "otherwise": "its address"}
    )
    """Header that a client is told by, for --rate: what a proxy sets, or Authorization where each has a token."""
    trace: bool = False
    """Send traces of requests by OpenTelemetry, to where the variables OTEL_EXPORTER_OTLP_* say."""
    watch_s: float = 2.0
    """Seconds between looks for new versions of the bundles; 0: only on SIGHUP."""
    warm_s: float = 600.0
    """Seconds in which a version is opened, compiled and run by the process that tries it, else it is not served."""
    warm_bytes: int = 0
    """Bytes of memory of that process; 0: what the machine has free when it begins."""

    @property
    def most_at_once(self) -> int:
        """Requests that a client with a rate may make at once."""
        return self.burst or max(1, math.ceil(2 * self.rate))

    @property
    def limits(self) -> dict[str, float]:
        """Most characters, pixels and seconds of one value, by the unit of its kind."""
        return {"characters": self.max_characters, "pixels": self.max_pixels, "seconds": self.max_seconds}

    def check(self) -> None:
        """Raises InputError: a value that no server can run with."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            least = 0 if setting.name in _MAY_BE_ZERO else 1e-3
            if isinstance(value, int | float) and not least <= value < math.inf:
                raise InputError(_flag(setting.name), "must be a positive number.", found=str(value))
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise InputError(
                _flag("sizes"),
                "must be rising batch sizes.",
                found=" ".join(map(str, self.sizes)),
                fix="--sizes 1 2 4 8 16 32",
            )
        if self.port > 65535:
            raise InputError(_flag("port"), "is none.", found=str(self.port), fix="--port 8080")
        if self.engine not in get_args(Engine):
            raise InputError(_flag("engine"), "is none.", found=self.engine, fix="--engine auto")
        for name in self.hosts:
            if not HOST_NAME.fullmatch(name.lower()):
                found, fix = name, "--hosts models.example.org"
                raise InputError(_flag("hosts"), "is no name of a host, without a port.", found=found, fix=fix)
        if not self.rate and (self.burst or self.client_header):
            given = "burst" if self.burst else "client_header"
            raise InputError(_flag(given), "says nothing without a rate.", fix="--rate 20")
        if not HEADER_NAME.fullmatch(self.client_header):
            found, fix = self.client_header, "--client-header X-Forwarded-For"
            raise InputError(_flag("client_header"), "is no name of a header.", found=found, fix=fix)
        if self.queue < self.max_records:
            raise InputError(
                _flag("queue"),
                "holds fewer records than one request may have.",
                found=f"{self.queue}, with --max-records {self.max_records}",
                fix=f"--queue {self.max_records:d}",
            )


def _flag(name: str) -> str:
    return f"flag --{name.replace('_', '-')}"
