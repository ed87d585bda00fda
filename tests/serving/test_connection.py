"""Where a request ends: by bytes on a socket, against the server's own connection."""

import re
import socket
import threading
import time

import pytest

from tests.serving.echo import Echo, answers

POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def echo():
    with Echo(head_s=1, keep_alive_s=1) as made:
        yield made


def paths(made):
    return [answer["path"] for status, answer in made if status == 200]


UPGRADES = [
    POST + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n" + HIDDEN,
    POST + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    POST + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" + LENGTH + b"\r\n" + HIDDEN,
    POST + b"Connection: upgrade\r\nUpgrade: nonsense\r\nContent-Length: 0041\r\n\r\n" + HIDDEN,
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n" + LENGTH + b"\r\n" + HIDDEN,
    b"CONNECT /a HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + HIDDEN,
]


@pytest.mark.parametrize("sent", UPGRADES)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_body_behind_an_upgrade_is_refused_and_never_a_request(echo, sent, parts):
    cut = sent.index(b"\r\n\r\n") + 4
    made = answers(echo.raw(sent) if parts == 1 else echo.raw(sent[:cut], sent[cut:]))
    assert [status for status, _ in made] == [400]
    assert made[0][1]["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("more", [b"", HIDDEN, b"\x00\x00\x12\x04"])
def test_an_upgrade_without_a_body_is_answered_once_and_closes(echo, more):
    """As the first request of `curl --http2`: the protocol stays, and what follows is nobody's."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\n\r\n"
    for received in (echo.raw(GET[:-2] + upgrade + more), echo.raw(GET[:-2] + upgrade, more)):
        assert not received.endswith(b"<open>") and b"connection: close" in received
        assert paths(answers(received)) == ["/a"]


def test_only_both_headers_ask_for_another_protocol(echo):
    for line in (b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n"):
        made = answers(echo.raw(POST + line + LENGTH + b"\r\n" + HIDDEN + GET[:-2] + CLOSE + b"\r\n"))
        assert [answer["body"] for _, answer in made] == [HIDDEN.decode(), ""]


REFUSED = {
    "length and chunks": POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "chunks and length": POST + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "coding identity": POST + b"Transfer-Encoding: identity\r\n" + b"\r\n" + HIDDEN,
    "coding identity and length": POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "coding gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "coding identity, chunked": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKS,
    "coding chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "coding chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "coding twice": POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "coding misspelt": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "coding with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS,
    "coding behind a tabulator of lines": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "coding without a value": POST + b"Transfer-Encoding:\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "coding folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "coding with a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "coding in HTTP/1.0": b"POST /a HTTP/1.0\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "a folded header": POST + b"A: b\r\n c\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "a header folded at first": b"POST /a HTTP/1.1\r\n Host: localhost\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "bare LF": GET.replace(b"\r\n", b"\n"),
    "bare LF after a header": POST + b"A: b\n" + LENGTH + b"\r\n" + HIDDEN,
    "bare LF at the head's end": POST + LENGTH + b"\n" + HIDDEN,
    "bare CR after a header": POST + b"A: b\rContent-Length: 0\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "two lengths that differ": POST + b"Content-Length: 3\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "two lengths that are the same": POST + LENGTH + LENGTH + b"\r\n" + HIDDEN,
    "a list of lengths": POST + b"Content-Length: 41, 41\r\n\r\n" + HIDDEN,
    "a length with a sign": POST + b"Content-Length: +41\r\n\r\n" + HIDDEN,
    "a hexadecimal length": POST + b"Content-Length: 0x29\r\n\r\n" + HIDDEN,
    "a length with a space inside": POST + b"Content-Length: 4 1\r\n\r\n" + HIDDEN,
    "a length with an underscore": POST + b"Content-Length: 4_1\r\n\r\n" + HIDDEN,
    "a length without a value": POST + b"Content-Length:\r\n\r\n" + HIDDEN,
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551617\r\n\r\n" + HIDDEN,
    "a chunk's size with a sign": POST + CHUNKED + b"\r\n+29\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's size with 0x": POST + CHUNKED + b"\r\n0x29\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's size with a space": POST + CHUNKED + b"\r\n29 \r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's size before LF": POST + CHUNKED + b"\r\n29\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's extension before LF": POST + CHUNKED + b"\r\n29;a\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's extension with CR": POST + CHUNKED + b"\r\n29;a\rb\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's size that is none": POST + CHUNKED + b"\r\n\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk's size beyond 64 bits": POST + CHUNKED + b"\r\n10000000000000029\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "a chunk longer than its size": POST + CHUNKED + b"\r\n1\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "trailers with a length": POST + CHUNKED + b"\r\n0\r\nContent-Length: 41\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /a\r\n\r\n" + HIDDEN,
    "HTTP/0.9 by name": b"GET /a HTTP/0.9\r\n\r\n" + HIDDEN,
    "HTTP/1.2": GET.replace(b"1.1", b"1.2") + HIDDEN,
    "HTTP/2.0 in words": GET.replace(b"1.1", b"2.0") + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a header without a colon": POST + b"Content-Length 41\r\n\r\n" + HIDDEN,
    "a header without a name": POST + b": 41\r\n\r\n" + HIDDEN,
    "a null in a header": POST + b"A: \x00\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "a space in the address": b"GET /a /b HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
    "an address of another host": b"GET http://evil.example/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
    "a host without a path": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_a_request_whose_end_others_may_see_elsewhere_is_refused(echo, sent):
    """By one answer, after which the connection closes: nothing of it is read as a request of its own."""
    received = echo.raw(sent)
    assert not received.endswith(b"<open>")
    assert [(status, answer["error"]["code"]) for status, answer in answers(received)] == [(400, "invalid_http")]


READ = {
    "spaces about a length": (POST + b"Content-Length: \t 41 \r\n" + CLOSE + b"\r\n" + HIDDEN, HIDDEN.decode()),
    "a body of GET": (b"GET /a HTTP/1.1\r\nHost: localhost\r\n" + CLOSE + LENGTH + b"\r\n" + HIDDEN, HIDDEN.decode()),
    "chunks with extensions": (POST + CLOSE + CHUNKED + b"\r\n29;a=b\r\n" + HIDDEN + b"\r\n0\r\n\r\n", HIDDEN.decode()),
    "trailers that would change the protocol": (
        POST + CLOSE + CHUNKED + b"\r\n0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "",
    ),
    "HTTP/1.0 that would be kept open": (
        b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + HIDDEN + HIDDEN,
        HIDDEN.decode(),
    ),
    "HTTP/1.0 without a length": (b"POST /a HTTP/1.0\r\n\r\n" + HIDDEN, ""),
    "the form of proxies": (b"GET http://localhost/a HTTP/1.1\r\nHost: localhost\r\n" + CLOSE + b"\r\n" + HIDDEN, ""),
    "more behind the last request": (POST + CLOSE + b"Content-Length: 0\r\n\r\n" + HIDDEN, ""),
    "a coding in capitals": (POST + CLOSE + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS, HIDDEN.decode()),
}


@pytest.mark.parametrize("sent, body", READ.values(), ids=READ)
def test_a_request_that_ends_in_one_way_is_answered_once(echo, sent, body):
    (status, answer), *more = answers(echo.raw(sent))
    assert (status, answer["path"], answer["body"], more) == (200, "/a", body, [])


def test_a_body_that_nobody_reads_does_not_become_a_request(echo):
    sent = POST.replace(b"/a", b"/deaf") + LENGTH + b"\r\n"
    made = answers(echo.raw(sent, HIDDEN, GET[:-2] + CLOSE + b"\r\n"))
    assert paths(made) == ["/deaf", "/a"]


def test_requests_of_one_connection_are_answered_in_their_order(echo):
    """A fault in a later one is said after the answers of those before it, and to none of them."""
    slow = GET.replace(b"/a", b"/slow")
    made = answers(echo.raw(slow + GET + b"nonsense\r\n\r\n" + HIDDEN))
    assert paths(made) == ["/slow", "/a"] and [status for status, _ in made] == [200, 200, 400]
    broken = POST + CHUNKED + b"\r\nnonsense\r\n"
    made = answers(echo.raw(slow + broken + HIDDEN))
    assert paths(made) == ["/slow"] and [status for status, _ in made] == [200, 400]
    made = answers(echo.raw(broken + HIDDEN))
    assert [status for status, _ in made] == [400]


def test_a_request_that_is_cut_off_is_not_asked_for_its_body(echo, caplog):
    """Its body is at fault before it was read; nothing is written behind the last answer."""
    made = answers(echo.raw(POST + b"Expect: 100-continue\r\n" + CHUNKED + b"\r\nnonsense\r\n"))
    assert [status for status, _ in made] == [400]
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


HEAD_BYTES = 65_536
LARGE = b"x" * 200_000


@pytest.mark.parametrize("cut", [10, 40, 90])
def test_a_small_head_in_two_packets_with_a_large_body(echo, cut):
    sent = POST + b"Content-Length: %d\r\n" % len(LARGE) + CLOSE + b"\r\n" + LARGE
    (status, answer), *more = answers(echo.raw(sent[:cut], sent[cut:], pause=0.1))
    assert (status, len(answer["body"]), more) == (200, len(LARGE), [])


def test_many_small_requests_in_one_go(echo):
    made = answers(echo.raw(GET * 9_000 + GET[:-2] + CLOSE + b"\r\n", timeout=60))
    assert len(made) == 9_001 and {status for status, _ in made} == {200}


def test_requests_that_wait_for_their_turn_are_bounded(echo):
    """However many are sent: they are taken in as those before them are answered."""
    count, most, received = 20_000, 0, b""
    with socket.create_connection(("127.0.0.1", echo.port), 60) as made:
        sending = threading.Thread(target=made.sendall, args=(GET * count + GET[:-2] + CLOSE + b"\r\n",))
        sending.start()
        while chunk := made.recv(1 << 16):
            received += chunk
            most = max(most, echo.waiting)
        sending.join()
    assert received.count(b"HTTP/1.1 200 ") == count + 1 and most < 200


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_large_body_behind_a_slow_answer(echo, pieces):
    """It waits unread, and is whole when its turn comes."""
    body = b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
    sent = GET.replace(b"/a", b"/slow") + POST + body + POST + CLOSE + body
    parts = [sent[len(sent) * i // pieces : len(sent) * (i + 1) // pieces] for i in range(pieces)]
    made = answers(echo.raw(*parts))
    assert [len(answer["body"]) for _, answer in made] == [0, len(LARGE), len(LARGE)]


def test_heads_are_counted_by_what_they_hold(echo):
    """Whether they come at once or in parts, and with a body behind them or not."""

    def head(size):
        begin = POST + CLOSE + b"Content-Length: 5\r\n"
        lines = [b"A%03d: %s\r\n" % (i, b"b" * 1000) for i in range(size // 1008)]
        rest = size - sum(map(len, lines))
        return begin + b"".join(lines) + b"C: " + b"d" * rest + b"\r\n\r\nhello" + b"z" * 200_000

    for size, expected in ((HEAD_BYTES - 300, 200), (HEAD_BYTES + 300, 431), (100_000, 431), (400_000, 431)):
        sent = head(size)
        for received in (echo.raw(sent), echo.raw(sent[:50_000], sent[50_000:70_000], sent[70_000:])):
            assert [status for status, _ in answers(received)] == [expected], size


def test_one_header_that_never_ends(echo):
    received = echo.raw(POST + b"A: ", *[b"b" * 60_000] * 20, pause=0)
    assert re.match(rb"HTTP/1.1 431 |<reset>", received)


def test_no_connection_is_left_over(echo):
    echo.raw(b"GET /a HTTP")
    until = time.monotonic() + 10
    while echo.open and time.monotonic() < until:
        time.sleep(0.1)
    assert echo.open == 0


def test_refusals_at_the_connection_are_counted_by_their_reason():
    refused = {"invalid_http": b"GET /a HTTP/9.9\r\n\r\n", "head_too_large": GET[:-2] + b"A: " + b"a" * 70_000}
    with Echo(head_s=1, keep_alive_s=1) as echo:
        assert answers(echo.raw(GET))[0][0] == 200 and not refusals(echo.monitor)
        for code, sent in refused.items():
            echo.raw(sent)
            echo.raw(sent)
            assert refusals(echo.monitor)[code] == 2
        echo.raw(GET[:-2])  # and no more
        assert refusals(echo.monitor) == {"invalid_http": 2, "head_too_large": 2, "head_too_slow": 1}


def refusals(monitor):
    """Code -> refusals, as the metrics say."""
    now = {"versions": {}, "refused": {}, "waiting": {}, "computing": {}, "in_flight": 0, "held": 0, "ready": True}
    now["catalogues"] = now["engines"] = {}
    found = re.findall(r'suite_connections_refused_total\{code="(\w+)"\} ([\d.]+)', monitor.text(**now).decode())
    return {code: int(float(count)) for code, count in found}
