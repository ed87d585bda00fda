"""The rate limit of a client: who is one, what it may send at once, and what is remembered of it."""

import json

import pytest

from suite.errors import InputError
from suite.serving import rates
from suite.serving.errors import Refused
from suite.serving.rates import Rates
from suite.serving.settings import Settings
from tests.serving.asking import Serving


def request(address="1.2.3.4", **headers):
    return {
        "client": (address, 5),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def allowed(limit, scope, most=50):
    """How many requests in a row are let through, and what the one after them is told."""
    for count in range(most):
        try:
            limit.check(scope)
        except Refused as error:
            return count, error
    return most, None


def test_a_burst_and_then_the_rate():
    clock = Clock()
    limit = Rates(2, 4, clock=clock)
    count, error = allowed(limit, request())
    assert (count, error.status, error.retry) == (4, 429, 1)
    clock.now += 0.5
    assert allowed(limit, request())[0] == 1
    clock.now += 1.25
    assert allowed(limit, request())[0] == 2, "what is refused costs nothing, and a part of a request is not lost"
    clock.now += 1000
    assert allowed(limit, request())[0] == 4
    slow = Rates(0.1, 1, clock=clock)
    assert allowed(slow, request())[1].retry == 10


def test_clients_are_apart():
    limit = Rates(1, 2, "X-Client", clock=Clock())
    for scope in (request(), request("1.2.3.5"), request(x_client="a"), request(x_client="b"), request("2001:db8::1")):
        assert allowed(limit, scope)[0] == 2, scope
    for same in (request("9.9.9.9", x_client="a"), request("2001:db8:0:0:ffff::2"), request(x_client="spoofed, a")):
        assert allowed(limit, same)[0] == 0, same
    assert allowed(limit, request("2001:db8:0:1::1"))[0] == 2


SPELLINGS = (
    (
        "7.7.7.7",
        "7.7.7.7:8080",
        " 7.7.7.7 ",
        "::ffff:7.7.7.7",
        "::FFFF:0707:0707",
        "[::ffff:7.7.7.7]:5",
        "6.6.6.6, 7.7.7.7",
    ),
    (
        "2001:db8::1",
        "2001:DB8:0:0:1::2",
        "[2001:db8::3]",
        "[2001:0db8::4]:443",
        "2001:db8::5%eth0",
        "[fe80::1%eth0], [2001:db8::6%1]:9",
    ),
    ("fe80::1", "fe80::2%eth0", "[fe80::3%eth0]:1"),
    ("a token", "b, a token"),
    ("007.7.7.7", "x, 007.7.7.7"),  # octal to some readers: no address
)


@pytest.mark.parametrize("header", ["X-Forwarded-For", ""])
def test_spellings_of_an_address_are_one_client(header):
    limit = Rates(1, 2, header, clock=Clock())

    def asked(value):
        last = value.rpartition(", ")[2].strip()
        return {"client": ("9.9.9.9" if header else last, 5), "headers": [(b"x-forwarded-for", value.encode())]}

    for first, *others in SPELLINGS:
        assert allowed(limit, asked(first))[0] == 2, first
        for other in others:
            assert allowed(limit, asked(other))[0] == 0, other


def test_spellings_of_a_token_are_one_client():
    limit = Rates(1, 2, "Authorization", clock=Clock())
    assert allowed(limit, request(authorization="Bearer abc"))[0] == 2
    for same in ("bearer abc", "BEARER  abc", " Bearer abc "):
        assert allowed(limit, request(authorization=same))[0] == 0
    assert allowed(limit, request(authorization="Bearer Abc"))[0] == 2


def test_few_things_are_remembered_of_few_clients(monkeypatch):
    monkeypatch.setattr(rates, "CLIENTS", 3)
    limit = Rates(1, 1, "authorization", clock=Clock())
    for name in ("a", "b", "c"):
        limit.check(request(authorization=name * 10_000))
    with pytest.raises(Refused):
        limit.check(request(authorization="a" * 10_000))
    limit.check(request(authorization="d"))
    assert len(limit._whole) == 3 and all(isinstance(client, int) for client in limit._whole)
    limit.check(request(authorization="a" * 10_000))  # forgotten, as the one that asked longest ago


def test_settings_of_a_rate():
    assert (
        Settings(rate=0.2).most_at_once,
        Settings(rate=20).most_at_once,
        Settings(rate=20, burst=5).most_at_once,
    ) == (1, 40, 5)
    for wrong, where in (
        ({"burst": 3}, "flag --burst"),
        ({"client_header": "X-Client"}, "flag --client-header"),
        ({"rate": 1, "client_header": "a b"}, "flag --client-header"),
        ({"rate": -1}, "flag --rate"),
    ):
        with pytest.raises(InputError) as error:
            Settings(**wrong).check()
        assert error.value.where == where
    Settings(rate=1, client_header="X-Forwarded-For").check()


def test_a_client_beyond_its_rate_is_told_when_to_come_again(bundles):
    with Serving(bundles["words"], "--sizes", "1", "--rate", "0.1", "--burst", "3", "--client-header", "x-c") as server:
        statuses = [server.post("words", {"inputs": ["a film"]}, x_c="one")[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        body = json.dumps({"inputs": []})
        for path, error in (("/v1/models/words:predict", dict), ("/v2/models/words/infer", str)):
            status, headers, content = server.request("POST", path, body, {"x-c": "one"})
            assert (status, headers["retry-after"]) == (429, "10") and isinstance(json.loads(content)["error"], error)
        assert server.get("/v1/models", **{"x-c": "one"})[0] == 429
        assert server.post("words", {"inputs": ["a film"]}, x_c="two")[0] == 200
        assert {server.get(path, **{"x-c": "one"})[0] for path in ("/healthz", "/readyz", "/v2/health/ready")} == {200}
        metrics = server.request("GET", "/metrics", headers={"x-c": "three"})[2].decode()
        assert "suite_rate_limited_total 4.0" in metrics
        assert 'suite_requests_total{code="429",model="words",program="predict"} 3.0' in metrics
