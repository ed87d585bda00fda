"""PUT of a catalogue: the new records answer at once, no request is lost, and what cannot be used changes nothing."""

import json
import shutil
import threading

import pytest

import suite
from suite.bundles.bundle import Bundle
from suite.serving.admission import Admission
from suite.serving.errors import Refused
from tests import shop
from tests.serving.asking import Serving
from tests.untrained import untrained

OWN = ("tests",)
ADMIN = {"Authorization": "Bearer secret"}
CSV = {**ADMIN, "Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    suite.export(untrained(shop.experiment(), folder / "run"), folder / "shop", platforms=("cpu",), allow=OWN)
    (folder / "admin.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    flags = ("--sizes", "1", "--allow", "tests", "--admin-token-file", folder / "admin.txt", "--watch-s", "0.2")
    with Serving(folder / "shop", *flags) as made:
        yield made


def put(server, body, headers=CSV, name="shop"):
    data = body if isinstance(body, bytes) else body.encode()
    status, _, said = server.request("PUT", f"/v1/models/{name}/catalogue", data, headers, timeout=280)
    return status, json.loads(said)


def items(answer):
    return {one["item"] for one in answer["items"]}


def test_it_is_replaced_while_requests_are_answered(server, folder):
    said, ended = [], threading.Event()

    def ask():
        while not ended.is_set():
            said.append(server.post("shop", {"inputs": [{"digits": "0123"}]}))
            ended.wait(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    before = server.get("/v1/models/shop")[1]
    try:
        status, told = put(server, 'item,digits\nnew,"0123"\n007,"01"\nbroken,"0x"\nnew,"1"\n')
        assert status == 200, told
    finally:
        ended.set()
        asking.join()
    assert told["catalogue"]["records"] == 2 and told["model"] == "shop"
    assert told["left_out"] == [
        "1 left out, its item is that of a record before: new",
        '1 left out, column "digits": must be digits from 0 to 3.: broken',
    ]
    assert len(said) > 1 and {status for status, _ in said} == {200}, "no request is lost"
    for _, answer in said:
        new = answer["catalogue"] == told["catalogue"]["version"]
        assert answer["version"] == (told["version"] if new else before["version"])
        assert (items(answer["answers"][0]) == {"new", "007"}) == new
    (answer,) = server.ask("shop", [{"digits": "0123", "seen": ["new", "item 2"]}])
    assert items(answer) == {"007"} and answer["unseen"] == 1
    assert server.get("/v1/models/shop")[1]["catalogue"] == told["catalogue"] != before["catalogue"]
    metrics = server.request("GET", "/metrics")[2].decode()
    assert 'suite_catalogue_records{model="shop"} 2.0' in metrics
    assert 'suite_swaps_total{model="shop",result="done"} 1.0' in metrics, "the watcher takes it for no other version"
    kept = Bundle.open(folder / "shop", OWN)  # what a new start would serve
    assert kept.version == told["version"] and items(kept.predict(["0123"])[0]) == {"new", "007"}
    assert sorted(path.name for path in folder.iterdir()) == ["admin.txt", "run", "shop"]


def test_json_lines(server):
    headers = {**ADMIN, "Content-Type": "application/jsonl"}
    status, told = put(server, '{"item": "a", "digits": "1"}\n{"item": "b", "digits": "23"}\n', headers)
    assert status == 200 and told["catalogue"]["records"] == 2 and told["left_out"] == []
    assert items(server.ask("shop", [{"digits": "1"}])[0]) == {"a", "b"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        ("item,digits\na,x\n", CSV, 400, "has no record that can be used."),
        ("item,colour\na,red\n", CSV, 400, "digits"),
        ('{"item": 3, "digits": "1"}', {**ADMIN, "Content-Type": "application/jsonl"}, 400, "must be a string"),
        ("item,digits\na,1\n", {**ADMIN, "Content-Type": "text/html"}, 415, "text/html is not read here"),
        ("item,digits\na,1\n", {"Content-Type": "text/csv"}, 401, "bearer token is missing or wrong"),
        ("item,digits\na,1\n", {"Authorization": "Bearer other", "Content-Type": "text/csv"}, 401, "wrong"),
    ],
)
def test_what_cannot_be_used_leaves_the_old_one(server, folder, body, headers, status, said):
    before = server.get("/v1/models/shop")[1]["version"]
    found, told = put(server, body, headers)
    assert found == status and said in told["error"]["message"], told
    assert str(folder) not in json.dumps(told), "clients are told no paths"
    assert server.post("shop", {"inputs": ["1"]})[1]["version"] == before == Bundle.open(folder / "shop", OWN).version


def test_models_that_are_none(server):
    assert put(server, "", name="none")[1]["error"]["code"] == "unknown_model"


def test_the_description_names_it(server):
    document = server.get("/openapi.json")[1]
    asked = document["paths"]["/v1/models/shop/catalogue"]["put"]
    assert asked["security"] == [{"admin_token": []}] and "text/csv" in asked["requestBody"]["content"]
    assert document["components"]["securitySchemes"].keys() == {"admin_token"}
    answer = document["paths"]["/v1/models/shop:predict"]["post"]["responses"]["200"]
    assert "catalogue" in answer["content"]["application/json"]["schema"]["required"]


def test_another_version_in_the_folder_goes_first(server, folder, tmp_path):
    """What was put there by hand, and does not answer yet, is not overwritten."""
    good = tmp_path / "good"
    shutil.copytree(folder / "shop", good)
    (folder / "shop" / "bundle.json").write_text("{}")
    status, told = put(server, "item,digits\na,1\n")
    assert (status, told["error"]["code"]) == (409, "busy")
    shutil.rmtree(folder / "shop")
    shutil.copytree(good, folder / "shop")


@pytest.mark.parametrize(
    ("tokens", "given", "status"),
    [
        ({}, b"", 403),
        ({"token": "t"}, b"Bearer t", 403),
        ({"token": "t", "admin": "a"}, b"Bearer t", 401),
        ({"admin": "a"}, b"", 401),
        ({"token": "t", "admin": "a"}, b"Bearer a", 0),
    ],
)
def test_who_may_change_what_is_served(tokens, given, status):
    """The token of requests for answers is not enough."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "headers": [(b"host", b"localhost"), (b"authorization", given)],
    }
    admission = Admission(tokens.get("token", ""), True, (), tokens.get("admin", ""))
    if not status:
        admission.check(scope, False, changes=True)
        return
    with pytest.raises(Refused) as refused:
        admission.check(scope, False, changes=True)
    assert refused.value.status == status
