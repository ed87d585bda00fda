"""Who may come in: names of the server, pages of other origins, tokens."""

import pytest

from suite.errors import InputError
from suite.serving.admission import Admission
from suite.serving.errors import Refused
from suite.serving.settings import Settings

LOCAL = {"token": "", "local": True, "hosts": ()}


def judged(how, *headers, method="GET", version="1.1", open_to_all=False):
    """Status and error of a request; 200 and nothing where it may come in."""
    scope = {"method": method, "http_version": version, "headers": list(headers)}
    try:
        Admission(**how).check(scope, open_to_all)
    except Refused as error:
        return error.status, error.body["error"]
    return 200, {}


def of_host(how, *values, **more):
    return judged(how, *((b"host", value) for value in values), **more)


OWN = [b"localhost", b"LocalHost:8080", b"127.0.0.1:8080", b"127.8.9.1", b"[::1]:8080", b"[::1]", b"192.168.1.5:80"]
OTHERS = [b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"127.0.0.1.evil.example", b"", b":80"]
NONE = [b"a b", b"a@b", b"localhost/x", b"localhost:80x", b"localhost:80:80", b"[::1", b"a,b", b"http://localhost"]


@pytest.mark.parametrize("host", OWN)
def test_a_local_server_is_called_localhost_or_by_an_address(host):
    assert of_host(LOCAL, host) == (200, {})


@pytest.mark.parametrize("host", OTHERS)
def test_a_name_that_is_made_to_lead_here_is_refused(host):
    """The page that owns the name would read every answer."""
    status, error = of_host(LOCAL, host)
    assert (status, error["code"], error["field"]) == (421, "unknown_host", "Host")


def test_the_refusal_says_how_to_allow_the_name():
    assert of_host(LOCAL, b"Models.example.org:80")[1] == {
        "code": "unknown_host",
        "message": 'this server is not called "models.example.org".',
        "field": "Host",
        "fix": "--hosts models.example.org",
    }
    assert of_host(LOCAL, b"$(reboot)")[1]["fix"] == "--hosts '$(reboot)'"


@pytest.mark.parametrize("host", NONE)
@pytest.mark.parametrize("how", [LOCAL, {"token": "t", "local": False, "hosts": ()}])
def test_what_is_no_name_of_a_host_is_refused(host, how):
    status, error = of_host(how, host)
    assert (status, error["code"]) == (400, "invalid_host")


@pytest.mark.parametrize("how", [LOCAL, {"token": "t", "local": False, "hosts": ("a.example",)}])
def test_a_request_has_one_host(how):
    assert of_host(how)[1]["message"] == "the request has no header Host."
    assert of_host(how, b"localhost", b"localhost")[1]["message"] == "the request has two headers Host."
    assert of_host(how, b"localhost", b"localhost", version="1.0")[0] == 400
    assert of_host(how, version="1.0", open_to_all=True) == (200, {})


@pytest.mark.parametrize("token, local", [("t", True), ("", False), ("t", False)])
def test_a_server_with_a_token_or_for_others_is_called_anything_until_names_are_given(token, local):
    free, named = ({"token": token, "local": local, "hosts": hosts} for hosts in ((), ("models.Example.org",)))
    assert of_host(free, b"evil.example", open_to_all=True) == (200, {})
    assert of_host(named, b"evil.example", open_to_all=True)[0] == 421
    for host in (b"models.example.org", b"MODELS.example.org:443", b"localhost", b"10.0.0.1"):
        assert of_host(named, host, open_to_all=True) == (200, {})


def test_names_are_checked_at_the_start():
    Settings(hosts=("a.example", "localhost", "Host_1")).check()
    for name in ("a.example:80", "https://a.example", "", "*", "a b"):
        with pytest.raises(InputError, match="--hosts"):
            Settings(hosts=(name,)).check()


HOST = (b"host", b"127.0.0.1:8080")


@pytest.mark.parametrize(
    "headers, status",
    [
        ([], 200),
        ([(b"sec-fetch-site", b"same-origin"), (b"origin", b"http://127.0.0.1:8080")], 200),
        ([(b"sec-fetch-site", b"none")], 200),
        ([(b"origin", b"http://127.0.0.1:8080")], 200),
        ([(b"origin", b"https://127.0.0.1:8080")], 200),
        ([(b"sec-fetch-site", b"cross-site"), (b"origin", b"https://evil.example")], 403),
        ([(b"sec-fetch-site", b"same-site"), (b"origin", b"http://127.0.0.1:3000")], 403),
        ([(b"sec-fetch-site", b"nonsense")], 403),
        ([(b"origin", b"http://127.0.0.1:3000")], 403),
        ([(b"origin", b"https://evil.example")], 403),
        ([(b"origin", b"null")], 403),
        ([(b"origin", b"")], 403),
    ],
)
def test_a_page_of_another_origin_cannot_have_this_machine_compute(headers, status):
    assert judged(LOCAL, HOST, *headers, method="POST")[0] == status
    assert judged(LOCAL, HOST, *headers)[0] == 200, "what it gets, the browser does not show it"
    with_token = judged({**LOCAL, "token": "t"}, HOST, *headers, (b"authorization", b"Bearer t"), method="POST")
    assert with_token[0] == 200, "a page does not know the token"


def test_the_page_works_behind_a_proxy_that_puts_another_host_in():
    origin = (b"origin", b"https://models.example.org")
    assert judged({**LOCAL, "hosts": ("models.example.org",)}, HOST, origin, method="POST") == (200, {})
    local = (b"origin", b"http://localhost:3000")
    assert judged({**LOCAL, "hosts": ("models.example.org",)}, HOST, local, method="POST")[0] == 403


def test_a_token():
    how = {**LOCAL, "token": "secret"}
    assert judged(how, HOST, open_to_all=True) == (200, {})
    for headers in ([], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"secret")]):
        assert judged(how, HOST, *headers)[1]["code"] == "unauthorized"
    assert judged(how, HOST, (b"authorization", b"Bearer secret")) == (200, {})


@pytest.mark.parametrize("value", [b"Bearer s3", b"bearer s3", b"BEARER  s3", b" Bearer s3 ", b"Bearer s3\t"])
def test_a_token_is_taken_as_http_lets_it_be_written(value):
    assert judged({**LOCAL, "token": "s3"}, (b"host", b"localhost"), (b"authorization", value)) == (200, {})


@pytest.mark.parametrize(
    "value", [b"", b"s3", b"Bearer", b"Bearer ", b"Bearer S3", b"Basic s3", b"Bearer s3 s3", b"Bearer \xff"]
)
def test_another_token_is_refused(value):
    assert judged({**LOCAL, "token": "s3"}, (b"host", b"localhost"), (b"authorization", value))[0] == 401
