"""Answers of each address, for each kind of input and each way to send it."""

import base64
import json
import socket
import time

import numpy as np
import pytest

from tests.serving.asking import MULTIPART, form, same
from tests.serving.conftest import png, tone


def test_an_answer_names_its_model_and_version(server, opened):
    status, made = server.post("words", {"inputs": ["a fine and moving film"]})
    assert status == 200 and made.keys() == {"model", "version", "answers"}
    assert (made["model"], made["version"]) == ("words", opened["words"].version)
    assert same(made["answers"], opened["words"].predict(["a fine and moving film"]))


def test_texts_as_records_and_as_bare_values(server, opened):
    texts = ["a dull and tired film", "a fine and moving film number 7", "", "x" * 500, "naïve — 电影 😀"]
    expected = opened["words"].predict(texts)
    assert same(server.ask("words", texts), expected)
    assert same(server.ask("words", [{"review": text} for text in texts]), expected)
    status, made = server.post("words", texts[0].encode(), "text/plain; charset=utf-8")
    assert status == 200 and same(made["answers"], expected[:1])
    status, made = server.post("words", form(("review", texts[0]), ("review", texts[1])), MULTIPART)
    assert status == 200 and same(made["answers"], expected[:2])


def test_a_table_of_texts(server, opened):
    texts = ["a dull and tired film", "a fine, moving film"]
    table = f'stars,review\n1,{texts[0]}\n5,"{texts[1]}"\n'.encode()
    expected = opened["words"].predict(texts)
    for media, body in (("text/csv", table), (MULTIPART, form(("file", "new.csv", table)))):
        status, made = server.post("words", body, media)
        assert status == 200 and same(made["answers"], expected)
    lines = "\n".join(json.dumps({"review": text, "stars": 1}) for text in texts).encode()
    status, made = server.post("words", form(("anything", "new.jsonl", lines)), MULTIPART)
    assert status == 200 and same(made["answers"], expected)


def test_images(server, opened):
    images = [png(0), png(255, (30, 20)), png(100)]
    expected = opened["digits"].predict(images)
    assert same(server.ask("digits", [{"image": base64.b64encode(image).decode()} for image in images]), expected)
    data = "data:image/png;base64," + base64.b64encode(images[1]).decode()
    assert same(server.ask("digits", [data]), expected[1:2])
    for media, body in (
        ("image/png", images[0]),
        (MULTIPART, form(("image", "a.png", images[0]))),
        (MULTIPART, form(("file", "a.png", images[0]))),
    ):
        status, made = server.post("digits", body, media)
        assert status == 200 and same(made["answers"], expected[:1])
    status, made = server.post("digits", form(*(("image", "a.png", image) for image in images)), MULTIPART)
    assert status == 200 and same(made["answers"], expected)


def test_recordings(server, opened):
    sounds = [tone(), tone(600, 0.9, 16000), tone(300, 0.1)]
    expected = opened["sounds"].predict(sounds)
    assert same(server.ask("sounds", [base64.b64encode(sound).decode() for sound in sounds]), expected)
    status, made = server.post("sounds", sounds[1], "audio/wav")
    assert status == 200 and same(made["answers"], expected[1:2])
    status, made = server.post("sounds", form(("audio", "a.wav", sounds[0])), MULTIPART)
    assert status == 200 and same(made["answers"], expected[:1])


def test_records_of_a_table(server, opened):
    records = [
        {"price": 3.5, "shop": "a", "tags": ["x1", "y2"]},
        {"price": None, "shop": "unheard of"},
        {"tags": []},
        {"shop": 7, "price": 2},
    ]
    columns = {name: [record.get(name) for record in records] for name in ("price", "shop", "tags")}
    expected = opened["clicks"].predict(columns)
    assert same(server.ask("clicks", records), expected)
    table = b"price,shop,tags,clicked\n3.5,a,x1|y2,1\n,unheard of,,0\n"
    for media, body in (("text/csv", table), (MULTIPART, form(("file", "new.csv", table)))):
        status, made = server.post("clicks", body, media)
        assert status == 200 and same(made["answers"], expected[:2])
    status, made = server.post("clicks", form(("price", "3.5"), ("shop", "a"), ("tags", "x1|y2")), MULTIPART)
    assert status == 200 and same(made["answers"], expected[:1])


def test_answers_to_many_at_once_are_those_to_each_alone(server, opened):
    """Requests of several records, over several connections, in batches of whatever meets."""
    from concurrent.futures import ThreadPoolExecutor

    def batches():
        lines = server.request("GET", "/metrics")[2].decode().splitlines()
        counts = [
            line for line in lines if line.startswith('suite_batch_records_count{model="words",program="predict"}')
        ]
        return float(counts[0].split()[-1]) if counts else 0.0

    texts = [f"a {'fine' if i % 3 else 'dull'} film number {i} " + "and so on " * (i % 5) for i in range(120)]
    expected, before = opened["words"].predict(texts), batches()
    parts = [range(i, min(i + 1 + i % 7, len(texts))) for i in range(0, len(texts), 1)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda part: server.ask("words", [texts[i] for i in part]), parts))
    assert all(same(made, [expected[i] for i in part]) for part, made in zip(parts, answers, strict=True))
    alone = sum(-(-len(part) // 4) for part in parts)  # the server's largest batch is 4
    assert batches() - before < alone, "several were computed together"


def test_the_list_and_the_description(server, opened):
    status, made = server.get("/v1/models")
    assert status == 200
    assert {each["name"]: each["version"] for each in made["models"]} == {n: b.version for n, b in opened.items()}
    assert all(each["ready"] and "refused" not in each for each in made["models"])
    status, made = server.get("/v1/models/clicks")
    assert [(each["name"], each["kind"]) for each in made["inputs"]] == [
        ("price", "number"),
        ("shop", "category"),
        ("tags", "list"),
    ]
    assert sorted(made["inputs"][1]["choices"]) == ["a", "b", "c"] and not made["inputs"][1]["required"]
    assert made["answer"]["properties"]["probability"]["maximum"] == 1
    assert made["card"].startswith("# clicks") and made["metrics"] == opened["clicks"].metrics
    assert made["limits"]["records"] == 64


def test_alive_and_ready(server):
    assert server.get("/healthz") == (200, {"status": "alive"})
    assert server.get("/readyz") == (200, {"status": "ready"})


def test_metrics(server, opened):
    server.ask("words", ["a film"])
    server.error("words", {"inputs": [3]})
    status, headers, body = server.request("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    version = f'suite_model_info{{model="words",version="{opened["words"].version}"}}'
    assert float(lines[version]) == 1 and float(lines["suite_ready"]) == 1
    for name in (
        'suite_requests_total{code="200",model="words",program="predict"}',
        'suite_requests_total{code="400",model="words",program="predict"}',
        'suite_request_seconds_bucket{le="1.0",model="words",program="predict"}',
        'suite_batch_records_sum{model="words",program="predict"}',
        'suite_batch_seconds_total{model="words",program="predict"}',
        "process_resident_memory_bytes",
    ):
        assert float(lines[name]) > 0, name
    for name in (
        'suite_queue_records{model="words",program="predict"}',
        "suite_requests_in_flight",
        "suite_held_bytes",
    ):
        assert float(lines[name]) == 0, name


def counted(server, code, model):
    """How many requests were counted under a status."""
    name = f'suite_requests_total{{code="{code}",model="{model}",program="{model and "predict"}"}} '
    lines = server.request("GET", "/metrics")[2].decode().splitlines()
    return next((float(line[len(name) :]) for line in lines if line.startswith(name)), 0.0)


def test_a_client_that_leaves_while_its_file_is_decoded(server):
    body = png(7, (4000, 4000))
    before = counted(server, 200, "digits"), counted(server, 499, "digits")
    with socket.create_connection(("127.0.0.1", server.port)) as made:
        made.sendall(
            b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        time.sleep(0.05)
    until = time.monotonic() + 10
    while (counted(server, 200, "digits"), counted(server, 499, "digits")) == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (counted(server, 200, "digits"), counted(server, 499, "digits")) == (before[0], before[1] + 1)


def test_a_method_that_is_not_understood_is_counted(server):
    before = counted(server, 405, "words")
    assert server.request("GET", "/v1/models/words:predict")[0] == 405
    assert counted(server, 405, "words") == before + 1


def test_the_page_and_its_headers(server):
    status, headers, body = server.request("GET", "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    for path in ("style.css", "page.js", "fields.js", "answers.js", "sound.js", "picture.js", "card.js", "dom.js"):
        assert server.request("GET", f"/page/{path}")[0] == 200
    assert b"http://" not in body.replace(b"http://www.w3.org", b"") and b"https://" not in body
    status, _, body = server.request("GET", "/", headers={"If-None-Match": headers["etag"]})
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    "method, path, status, error",
    [
        (
            "GET",
            "/v1/models/nothing",
            404,
            {
                "code": "unknown_model",
                "message": 'there is no model "nothing".',
                "fix": "words, digits, sounds, clicks",
            },
        ),
        (
            "POST",
            "/v1/models/nothing:predict",
            404,
            {
                "code": "unknown_model",
                "message": 'there is no model "nothing".',
                "fix": "words, digits, sounds, clicks",
            },
        ),
        (
            "GET",
            "/v1/models/words:predict",
            405,
            {"code": "method_not_allowed", "message": "GET is not understood here.", "fix": "POST"},
        ),
        (
            "DELETE",
            "/v1/models",
            405,
            {"code": "method_not_allowed", "message": "DELETE is not understood here.", "fix": "GET"},
        ),
        (
            "GET",
            "/redoc",
            404,
            {"code": "not_found", "message": 'there is no address "/redoc".', "fix": "/openapi.json"},
        ),
        (
            "GET",
            "/page/../app.py",
            404,
            {"code": "not_found", "message": 'there is no address "/page/../app.py".', "fix": "/openapi.json"},
        ),
    ],
)
def test_addresses_that_are_none(server, method, path, status, error):
    found, headers, body = server.request(method, path)
    assert (found, json.loads(body)["error"]) == (status, error)
    if status == 405:
        assert headers["allow"] == error["fix"]


def test_no_server_loads_flax_or_the_tasks(child):
    code = (
        "import suite.serving.uvicorn_server, sys; print(sorted(n for n in ('flax', 'tasks', 'optax', 'suite.models', "
    )
    assert child(code + "'suite.training.trainer', 'torch', 'tensorflow') if n in sys.modules))").strip() == "[]"


def test_numbers_are_rounded_alike(server, opened):
    """The answers of a bundle in this process and of the server agree to the last digit that is told."""
    made, expected = server.ask("digits", [base64.b64encode(png(7)).decode()]), opened["digits"].predict([png(7)])
    assert np.isclose(made[0]["probability"], expected[0]["probability"], atol=1e-5)
