"""Requests with anything changed, to a server of four models: each is answered or told why not, and nothing is left."""

import base64
import http.client
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.mutations import TELLING, mutated
from tests.serving import conftest as serving
from tests.serving.asking import MULTIPART, Serving, form

bundles = serving.bundles

DEADLINE = 10
JSON = {"Content-Type": "application/json"}
HEAD = "Inference-Header-Content-Length"
VALUES = [
    *(
        None,
        True,
        0,
        -1,
        10**30,
        10**399,
        1e308,
        -1e-320,
        "",
        "a",
        "1",
        "nan",
        "1,5",
        "\x00",
        "\ud800",
        "\u202e",
        "é" * 400,
    ),
    *(" " * 5000, [], {}, [[]], ["a"] * 1200, [None], {"a": 1}, {"": {"": []}}, "AAAA", "data:image/png;base64,AAAA"),
]
MEDIA = [
    *("application/json", "text/plain", "text/csv", "text/tab-separated-values", "application/jsonl", "image/png"),
    *("audio/wav", "image/*", "", "application/x-www-form-urlencoded", "multipart/form-data", MULTIPART),
    *(
        "application/json; charset=utf-16",
        "text/csv;header=absent",
        "\xff",
        "multipart/form-data; boundary=" + "x" * 300,
    ),
]
HEADERS = [
    *((HEAD, value) for value in ("0", "-1", "10", "99999999", "x")),
    *(("X-Request-Timeout", value) for value in ("1", "0.001", "nan", "-1", "1e999", "soon")),
    *(("Accept", value) for value in ("*/*", "image/png", "image/*;q=0.5,application/json;q=x", "," * 300)),
    *(("Content-Encoding", value) for value in ("gzip", "identity", "\xff")),
    *(("Host", value) for value in ("evil.example", "", "localhost:80", "[::1]", "a b")),
    *(("Sec-Fetch-Site", value) for value in ("cross-site", "same-origin")),
    *(("Origin", "https://evil.example"), ("Authorization", "Bearer x"), ("Expect", "100-continue"), ("X-Seed", "1")),
]
PATHS = [
    *(
        "/",
        "/docs",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/models",
        "/v1/models/words",
        "/page/app.js",
    ),
    *("/v1/models/%2e%2e:predict", "/v1/models/words:nothing", "/v1/models/:predict", "/v1/models/words/predict", "//"),
    *(
        "/v1/models/words:predict?a=b",
        "/v1/models/words%00:predict",
        "/v1/models/" + "a" * 3000,
        "/page/../../etc/passwd",
    ),
    *("/v2/health/live", "/v2/health/ready", "/v2/models/words", "/v2/models/words/infer", "/v2/models/digits/infer"),
]
METHODS = ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]
WAITING = {503: {"not_ready", "too_many_connections", "stopping"}, 504: {"deadline"}}
"""Statuses of 5xx that have rules of their own, and their codes."""


def good():
    """Model -> (path, headers, body) of requests that it answers."""
    picture, sound = serving.png(90), serving.tone()
    click = {"price": 3.5, "shop": "a", "tags": ["x1", "y2"]}
    texts = {"name": "review", "shape": [2], "datatype": "BYTES", "data": ["a fine film", "dull"]}
    price = {"name": "price", "shape": [2, 1], "datatype": "FP32", "data": [3.5, 1]}
    shop = {"name": "shop", "shape": [2], "datatype": "BYTES", "data": ["a", "nowhere"]}

    def several(*values):
        return JSON, json.dumps({"inputs": values}).encode()

    def infer(*tensors):
        return JSON, json.dumps({"inputs": tensors, "id": "1"}).encode()

    def coded(file):
        return base64.b64encode(file).decode()

    def file(media, content):
        return {"Content-Type": media}, content

    def binary(name, *values):
        raw = b"".join(len(value).to_bytes(4, "little") + value for value in values)
        about = {
            "name": name,
            "shape": [len(values)],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(raw)},
        }
        head = json.dumps({"inputs": [about]}).encode()
        return {HEAD: str(len(head)), "Content-Type": "application/octet-stream"}, head + raw

    predicted = {
        "words": [
            several("a fine and moving film", {"review": "a dull film"}),
            file("text/plain", b"a fine film"),
            file("text/csv", b'review,stars\na fine film,3\n"dull, tired",1\n'),
            file("application/jsonl", b'{"review": "a fine film"}\n{"review": "dull"}\n'),
            file(MULTIPART, form(("review", "a fine film"), ("review", "dull"))),
        ],
        "digits": [
            several(coded(picture)),
            file("image/png", picture),
            file(MULTIPART, form(("image", "a.png", picture))),
        ],
        "sounds": [several(coded(sound)), file("audio/wav", sound), file(MULTIPART, form(("audio", "a.wav", sound)))],
        "clicks": [
            several(click, {"price": None, "shop": "nowhere"}),
            file("text/csv", b"price,shop,tags\n3.5,a,x1|y2\n,b,\n"),
            file("text/tab-separated-values", b"price\tshop\ttags\n3.5\ta\tx1|y2\n"),
            file("application/jsonl", json.dumps(click).encode() + b"\n"),
            file(MULTIPART, form(("price", "3.5"), ("shop", "a"), ("tags", "x1|y2"))),
        ],
    }
    inferred = {
        "words": [infer(texts), binary("review", b"a fine film", b"dull")],
        "digits": [binary("image", picture)],
        "sounds": [binary("audio", sound)],
        "clicks": [infer(price, shop)],
    }
    return {
        name: [
            *((f"/v1/models/{name}:predict", *request) for request in predicted[name]),
            *((f"/v2/models/{name}/infer", *request) for request in inferred[name]),
        ]
        for name in predicted
    }


def pick(choices, generator):
    return choices[int(generator.integers(len(choices)))]


def altered(value, generator):
    """JSON with one part of it, or all, replaced, left out or doubled."""
    if isinstance(value, dict) and value and generator.random() < 0.8:
        key = pick(list(value), generator)
        match int(generator.integers(6)):
            case 0:
                return {name: part for name, part in value.items() if name != key}
            case 1:
                return {**value, str(pick(VALUES, generator))[:50]: pick(VALUES, generator)}
            case _:
                return {**value, key: altered(value[key], generator)}
    if isinstance(value, list) and value and generator.random() < 0.8:
        place = int(generator.integers(len(value)))
        if generator.random() < 0.2:
            return value * int(generator.integers(2, 40))
        return [*value[:place], altered(value[place], generator), *value[place + 1 :]]
    return pick(VALUES, generator)


def case(sources, generator):
    """(method, path, headers, body, source) of a request; the source's name and place where nothing was changed."""
    name = pick(list(sources), generator)
    place = int(generator.integers(len(sources[name])))
    path, headers, body = sources[name][place]
    method, headers = "POST", dict(headers)
    match int(generator.integers(10)):
        case 0:
            return method, path, headers, body, (name, place)
        case 1 | 2 if headers["Content-Type"] == "application/json":
            body = json.dumps(altered(json.loads(body), generator), allow_nan=True).encode("utf-8", "surrogatepass")
        case 3:
            headers["Content-Type"] = pick(MEDIA, generator)
        case 4:
            method, path = pick([*METHODS, "POST"], generator), pick(PATHS, generator)
        case 5:
            path = pick(sources[pick(list(sources), generator)], generator)[0]
        case _:
            body = mutated(
                body, generator, (*TELLING, b"--xyz", b"\r\n\r\n", b"base64,", b"1e999", b"NaN", b"\xef\xbb\xbf")
            )
    if generator.random() < 0.15:
        key, value = pick(HEADERS, generator)
        headers[key] = value
    return method, path, headers, body, None


class Client:
    """Asks on one connection while it stays open."""

    def __init__(self, server):
        self._server, self._connection = server, None

    def ask(self, method, path, headers, body):
        """(status, headers, body); a connection that was closed in the meantime is opened again once."""
        try:
            return self._once(method, path, headers, body)
        except (ConnectionError, http.client.RemoteDisconnected):
            self.close()
            return self._once(method, path, headers, body)

    def _once(self, method, path, headers, body):
        if self._connection is None:
            self._connection = self._server.connect(timeout=DEADLINE + 20)
        self._connection.putrequest(method, path, skip_host="Host" in headers)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self._connection.putheader(key, value.encode("latin-1"))
        self._connection.endheaders(body)
        answer = self._connection.getresponse()
        made = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        if answer.will_close:
            self.close()
        return made

    def close(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def fault(status, headers, body, hidden):
    """What is wrong with an answer, or nothing."""
    if any(path in body for path in hidden):
        return "it tells a path of this machine"
    if status < 400 or not body:
        return "" if status < 500 else "it says nothing"
    error = json.loads(body)["error"]
    if isinstance(error, str):  # of the Open Inference Protocol, which knows no codes
        return "" if error and (status < 500 or status in WAITING) else "it is the server's fault"
    if status >= 500 and error["code"] not in WAITING.get(status, ()):
        return "it is the server's fault"
    return "" if error["code"] and error["message"] else "it does not say why"


class Process:
    """What a server holds: MiB, descriptors, seconds of its processors."""

    def __init__(self, server):
        folder = Path(f"/proc/{server.process.pid}")
        self.memory = server.resident
        self.descriptors = len(list((folder / "fd").iterdir()))
        spent = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        self.seconds = sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def served(bundles):
    limits = ("--deadline-s", DEADLINE, "--max-body-bytes", 1_000_000, "--max-pixels", 100_000, "--max-seconds", 2)
    with Serving(*bundles.values(), "--sizes", "1", "4", *limits) as made:
        yield made


def test_requests(budget, served):
    sources, client = good(), Client(served)
    expected = {}
    for name, requests in sources.items():
        for place, request in enumerate(requests):
            status, _, made = client.ask("POST", *request)
            assert status == 200, (name, place, made)
            expected[name, place] = answered(made)
    hidden = [served.folder.encode(), str(Path.home()).encode() + b"/", b"/site-packages/", b"Traceback"]
    settled = None
    for number, generator in budget:
        method, path, headers, body, source = case(sources, generator)
        asked = json.dumps([number, method, path, headers]).encode() + b"\n" + body
        begun = time.monotonic()
        try:
            status, told, answer = client.ask(method, path, headers, body)
            wrong = fault(status, told, answer, hidden)
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            status, answer, wrong = 0, b"", f"{type(error).__name__}: {error}"
        if source and (status != 200 or not near(answered(answer), expected[source])):
            wrong = wrong or f"it differs from {expected[source]}"
        if time.monotonic() - begun > DEADLINE + 15:
            wrong = "it came long after the deadline"
        if wrong or served.process.poll() is not None:
            budget.failed(f"{wrong}: {status} {answer[:500]!r}", asked)
        if budget.done == 1000:  # compiled, and every pool as large as it gets
            settled = Process(served)
    client.close()
    time.sleep(1.5)
    before = Process(served)
    time.sleep(1)
    after = Process(served)
    assert after.seconds - before.seconds < 0.5, "a thread is stuck"
    if settled is not None:
        print(
            f"memory {settled.memory:.0f} -> {after.memory:.0f} MiB, files {settled.descriptors} -> {after.descriptors}"
        )
        assert after.memory < settled.memory + 100 and after.descriptors <= settled.descriptors + 2
    assert not [line for line in served.log if "Traceback" in line], "".join(served.log)


def answered(body):
    """What an answer says of its records, by either protocol."""
    made = json.loads(body)
    return made["answers"] if "answers" in made else made["outputs"]


def near(made, expected):
    """Whether answers are the same to rounding, which differs by the size of the batch."""
    if isinstance(made, dict) and isinstance(expected, dict):
        return made.keys() == expected.keys() and all(near(made[key], expected[key]) for key in made)
    if isinstance(made, list) and isinstance(expected, list):
        return len(made) == len(expected) and all(map(near, made, expected))
    return made == pytest.approx(expected, abs=1e-4) if isinstance(made, float) else made == expected


def test_an_answer_is_found_wrong():
    """What the fuzzer is to see."""
    refused = json.dumps({"error": {"code": "failed", "message": "m"}}).encode()
    late = json.dumps({"error": {"code": "deadline", "message": "m"}}).encode()
    assert fault(500, {}, refused, []) and fault(504, {}, refused, []) and not fault(504, {}, late, [])
    assert fault(200, {}, b"in /tmp/x", [b"/tmp/x"]) and not fault(200, {}, b"in /tmp/x", [b"/tmp/y"])
    assert not near([{"a": 0.5}], [{"a": 0.6}]) and near([{"a": 0.5}], [{"a": 0.50001}])
    assert case(good(), np.random.default_rng(0)) == case(good(), np.random.default_rng(0))
