"""What is said of models that say of themselves what JSON does not hold: it stays with them."""

import asyncio
import json
import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from suite.codecs.answers import class_outputs
from suite.contracts.codec import Codec, Input
from suite.serving.app import Gate, Server
from suite.serving.checks import Checks
from suite.serving.endpoint import Endpoint
from suite.serving.model import Model
from suite.serving.models import Models
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.versions import Version


@dataclass(frozen=True)
class Named(Codec):
    """Texts into classes of any names, with a text of any example."""

    names: tuple = ("no", "yes")
    example: object = "a text"

    @property
    def inputs(self):
        limited = Input(name="shop", kind="category", required=False, example=self.example)
        return (
            Input(name="text", kind="text", limit=100_000),
            limited,
            Input(name="tags", kind="list", required=False),
        )

    @property
    def outputs(self):
        return class_outputs(self.names)

    def encode(self, columns):
        raise NotImplementedError

    def decode(self, outputs, columns):
        raise NotImplementedError


def gate(tmp_path, **codecs):
    """The application before models with these codecs."""
    settings, monitor = Settings(), Monitor((1,))
    models = Models((), settings, monitor)
    for name, codec in codecs.items():
        program = SimpleNamespace(name="predict", codec=codec, samples=False, lengths=(1,), engine="xla")
        bundle = SimpleNamespace(version="1", signed_by="", catalogue=None, metrics={}, programs={"predict": program})
        checks = Checks(codec.inputs, codec.primary, (), settings)
        endpoint = Endpoint(program, checks, SimpleNamespace(computing=0.0, waiting=0))
        models.by_name[name] = model = Model(name, tmp_path, True)
        model.current = Version(name, bundle, {"predict": endpoint}, None)
    return Gate(Server(models, settings, monitor, "", True, lambda: None, lambda error: None))


def get(gate, path, headers=((b"host", b"localhost"),)):
    """Status and JSON of an answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    about = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    more = {
        "http_version": "1.1",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "root_path": "",
    }
    asyncio.run(gate({**about, **more}, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


ADDRESSES = ("/openapi.json", "/v1/models", "/v1/models/odd", "/v2/models/odd", "/readyz", "/v2")


def test_a_class_named_by_half_of_a_surrogate_pair_is_described(tmp_path):
    served = gate(tmp_path, odd=Named(names=("a", "\ud800")), plain=Named())
    answers = {path: get(served, path) for path in ADDRESSES}
    assert {status for path, (status, _) in answers.items() if path != "/readyz"} == {200}
    assert "\ud800" in json.dumps(answers["/v1/models/odd"][1], ensure_ascii=False)


def test_a_model_that_cannot_be_described_keeps_no_other_from_it(tmp_path, caplog):
    served = gate(tmp_path, odd=Named(example=math.nan), plain=Named())
    status, document = get(served, "/openapi.json")
    assert status == 200 and document["info"]["description"].endswith("is not JSON: odd.")
    assert {"/v1/models/plain", "/v2/models/plain/infer", "/v2", "/healthz"} <= set(document["paths"])
    assert not any("odd" in path for path in document["paths"]) and "odd cannot be described" in caplog.text
    assert [model["name"] for model in get(served, "/v1/models")[1]["models"]] == ["odd", "plain"]
    assert get(served, "/v1/models/plain")[0] == 200
    status, answer = get(served, "/v1/models/odd")
    assert (status, answer["error"]["code"]) == (500, "failed") and "Traceback" not in json.dumps(answer)
    broken = gate(tmp_path, odd=Named(names=5), plain=Named())
    described, listed = get(broken, "/openapi.json")[1], get(broken, "/v1/models")[1]
    assert "/v1/models/plain" in described["paths"] and listed["undescribed"] == ["odd"]
    assert get(broken, "/v2/models/odd") == (500, {"error": "the server made a mistake; its log says which."})


@pytest.mark.parametrize("path", ["/v1/models", "/v2/models/plain", "/nowhere"])
def test_a_mistake_of_the_server_is_told_as_json(tmp_path, monkeypatch, path):
    served = gate(tmp_path, plain=Named())
    monkeypatch.setattr(served._admission, "check", lambda *given, **more: 1 / 0)
    status, answer = get(served, path)
    message = "the server made a mistake; its log says which."
    assert (status, answer["error"]) == (500, message if "/v2" in path else {"code": "failed", "message": message})


def test_limits_of_inputs_are_those_that_hold(tmp_path):
    described = get(gate(tmp_path, plain=Named()), "/v1/models/plain")[1]
    assert [entry["limit"] for entry in described["inputs"]] == [Settings().max_characters, 0, 1000]
