"""Streams of requests with bytes changed: the server reads each request where a strict reader does, or refuses it."""

import contextlib
import os
import re
import time
import urllib.parse

import pytest

from tests.fuzz.mutations import TELLING, mutated
from tests.serving.echo import Echo, answers

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP = (
    *(b"Content-Length: 41\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
    *(b"\r\n\r\n", b"0\r\n\r\n", b"29\r\n", HIDDEN, b"HTTP/1.0", b"HTTP/2.0", b"chunked", b"identity, ", b"CONNECT "),
    *(b"+", b";", b"0x", b"\x0b", b"http://localhost", b"Host: localhost\r\n"),
    *TELLING,
)
"""What may be put in."""
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LINE = re.compile(rb"(" + TOKEN + rb") +(\S+) +HTTP/1\.([01])")
HEADER = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:[^\x00-\x1f\x7f]|\t)*)")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;(?:[^\x00-\x1f\x7f]|\t)*)?\r\n")


def reading(stream):
    """(method, path, body) of each request of ``stream`` as RFC 9112 has it, up to the first that closes, changes the
    protocol, or has no one reading."""
    requests = []
    while True:
        while stream.startswith((b"\r\n", b"\n", b"\r")):  # before a request line they may be skipped
            stream = stream[1:]
        head, end, rest = stream.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        request, headers = LINE.fullmatch(line), [HEADER.fullmatch(each) for each in lines]
        if not end or request is None or not all(headers):
            return requests
        named = {}
        for header in headers:
            named.setdefault(header[1].lower(), []).append(header[2].strip(b" \t").lower())
        lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
        if codings:
            if codings != [b"chunked"] or lengths or request[3] == b"0":
                return requests
            body, rest = of_chunks(rest)
        elif lengths:
            if len(lengths) > 1 or not re.fullmatch(rb"\d+", lengths[0]):
                return requests
            size = int(lengths[0])
            body, rest = (rest[:size], rest[size:]) if len(rest) >= size else (None, b"")
        else:
            body = b""
        if body is None:
            return requests
        path = re.split(rb"[?#]", re.sub(rb"^[a-z]+://[^/]*", b"", request[2]))[0]
        requests.append((request[1].decode(), urllib.parse.unquote(path.decode("latin-1")), body.decode("latin-1")))
        options = b",".join(named.get(b"connection", [])).replace(b" ", b"").replace(b"\t", b"").split(b",")
        if b"close" in options or request[3] == b"0" or (b"upgrade" in options and b"upgrade" in named):
            return requests
        stream = rest


def of_chunks(rest):
    """Body and what follows it; None where it has no end, or none that all agree on."""
    body = b""
    while (size := CHUNK.match(rest)) is not None:
        rest = rest[size.end() :]
        if int(size[1], 16) == 0:
            trailers, end, after = (b"\r\n" + rest).partition(b"\r\n\r\n")
            lines = [HEADER.fullmatch(line) for line in trailers.split(b"\r\n")[1:]]
            framing = (b"content-length", b"transfer-encoding")
            fine = end and all(line and line[1].lower() not in framing for line in lines)
            return (body, after) if fine else (None, b"")
        chunk, rest = rest[: int(size[1], 16)], rest[int(size[1], 16) :]
        if not rest.startswith(b"\r\n"):
            return None, b""
        body, rest = body + chunk, rest[2:]
    return None, b""


def stream(generator):
    """One to four good requests, of which bodies look like requests, and one that closes."""
    made = b""
    for place in range(int(generator.integers(1, 5))):
        head = b"POST /%d HTTP/1.1\r\nHost: localhost\r\n" % place
        match int(generator.integers(4)):
            case 0:
                made += head.replace(b"POST", b"GET") + b"\r\n"
            case 1:
                made += head + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN
            case 2:
                made += head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
            case 3:
                cut = int(generator.integers(1, len(HIDDEN)))
                chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in (HIDDEN[:cut], HIDDEN[cut:]))
                made += head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nA: b\r\n\r\n"
    return made + b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def told(received):
    """Requests that the answers tell of, and whether all are answers that the server may give."""
    while b"HTTP/1.1 100 Continue\r\n\r\n" in received:
        received = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    made = answers(received)
    fine = all(status == 200 or 400 <= status < 500 for status, _ in made) and all(
        status == 200 for status, _ in made[:-1]
    )
    return [(one["method"], one["path"], one["body"]) for status, one in made if status == 200], fine


def sockets():
    """Descriptors of this process that are sockets: other threads may open files meanwhile."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed since it was listed, as the one that lists them
            found += [number] if os.readlink(f"/proc/self/fd/{number}").startswith("socket:") else []
    return found


@pytest.fixture
def echo():
    with Echo(head_s=0.5) as made:
        yield made


def test_raw_http(budget, echo, caplog):
    echo.raw(b"GET / HTTP/1.1\r\n\r\n", timeout=0.2)
    held = len(sockets())
    for _, generator in budget:
        good = stream(generator)
        sent = mutated(good, generator, HTTP) if generator.random() < 0.9 else good
        cuts = sorted(generator.integers(len(sent) + 1, size=int(generator.integers(3))).tolist())
        parts = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
        received = echo.raw(*parts, pause=0.002, timeout=5 if sent is good else 0.03)
        requests, fine = told(received)
        expected = reading(sent)
        if not fine or requests != expected[: len(requests)] or (sent is good and len(requests) < len(expected)):
            budget.failed(f"read {requests}, not {expected}: {received[-500:]!r}", sent)
    # A descriptor is closed in the turn of the loop after the one in which its connection is forgotten.
    until = time.monotonic() + 10
    while (echo.open or len(sockets()) > held) and time.monotonic() < until:
        time.sleep(0.05)
    assert echo.open == 0 and len(sockets()) <= held, sockets()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


def test_the_strict_reader():
    """It is what the server is held to, so it must see what is there."""
    post = b"POST /a HTTP/1.1\r\nHost: localhost\r\n"
    chunks = b"Transfer-Encoding: chunked\r\n\r\n29\r\n" + HIDDEN + b"\r\n0\r\n\r\n"
    assert reading(post + b"Content-Length: 41\r\n\r\n" + HIDDEN) == [("POST", "/a", HIDDEN.decode())]
    assert reading(post + chunks + HIDDEN) == [("POST", "/a", HIDDEN.decode()), ("GET", "/hidden", "")]
    assert reading(post + b"\r\n" + HIDDEN + b"x") == [("POST", "/a", ""), ("GET", "/hidden", "")]
    for line in (b"Content-Length: 41\r\n", b"Transfer-Encoding: identity\r\n", b"A: b\n", b" A: b\r\n"):
        assert reading(post + line + chunks) == []
    assert reading(post + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + HIDDEN) == [("POST", "/a", "")]
