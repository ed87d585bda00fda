"""Programs and seeds over HTTP: each program at its own address, and the same seed the same answer in any company."""

import asyncio
import json
import threading

import jsonschema
import pytest

import suite
from tests import two_programs
from tests.serving.asking import MULTIPART, Serving, form
from tests.untrained import untrained

OWN = ("tests",)
ROWS = [[1, 2, 3], [0, 0, 1, 3], [2] * 9]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run = untrained(two_programs.experiment(), folder / "run")
    return suite.export(run, folder / "two", name="two", platforms=("cpu",), allow=OWN)


@pytest.fixture(scope="module")
def two(bundle):
    with Serving(bundle.folder, "--allow", "tests", "--sizes", "1", "4", "--max-wait-ms", "20") as made:
        yield made


def post(server, program, content, media="application/json", mark=":"):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path = f"/v1/models/two{mark}{program}"
    status, _, body = server.request("POST", path, data, {"Content-Type": media})
    return status, json.loads(body)


def test_each_program_has_an_address(two, bundle):
    status, answered = post(two, "draw", {"inputs": ROWS, "seed": 5})
    assert status == 200 and answered["answers"] == bundle.predict(ROWS, program="draw", seed=5)
    assert post(two, "draw", {"inputs": ROWS, "seed": 5}, mark="/") == (status, answered)
    status, answered = post(two, "predict", {"inputs": ROWS})
    expected = bundle.predict(ROWS)
    assert status == 200 and [each["label"] for each in answered["answers"]] == [each["label"] for each in expected]
    assert "seed" not in answered
    assert post(two, "predict", {"inputs": ROWS}, mark="/")[1] == answered


def test_a_seed_within_a_record_is_refused_with_its_place(two):
    status, answered = post(two, "draw", {"inputs": [{"digits": [1], "seed": 5}]})
    assert status == 400 and answered["error"]["field"] == "inputs[0].seed"
    assert answered["error"]["fix"] == '"seed" beside "inputs"'
    assert post(two, "predict", {"inputs": [{"digits": [1], "seed": 5}]})[1]["error"]["fix"] == "digits"


def test_a_program_that_is_none(two):
    status, answered = post(two, "drew", {"inputs": ROWS})
    assert (status, answered["error"]) == (
        404,
        {"code": "unknown_program", "message": 'two has no program "drew".', "fix": "draw"},
    )
    assert post(two, "x" * 300, {"inputs": ROWS})[0] == 404
    assert two.request("GET", "/v1/models/two:draw")[0] == 405
    assert two.request("POST", "/v1/models/other:draw", b"{}")[0] == 404


def test_programs_are_listed(two):
    (listed,) = two.get("/v1/models")[1]["models"]
    assert listed["programs"]["draw"] == {
        "inputs": [{"name": "digits", "kind": "list", "required": True}],
        "outputs": [{"name": "more", "kind": "text"}],
        "samples": True,
        "engine": "xla",
    }
    assert not listed["programs"]["predict"]["samples"]
    described = two.get("/v1/models/two")[1]
    assert list(described["programs"]) == ["predict", "draw"]
    assert described["programs"]["draw"]["lengths"] == [6, 12, 16] and described["lengths"] == [6, 12]
    assert described["answer"] == described["programs"]["predict"]["answer"]


def test_without_a_seed_each_record_is_drawn_anew_and_the_answer_says_by_what(two, bundle):
    _, first = post(two, "draw", {"inputs": [ROWS[0]] * 6})
    _, second = post(two, "draw", {"inputs": [ROWS[0]] * 6})
    assert len({*first["seed"], *second["seed"]}) == 12
    assert len({answer["more"] for answer in first["answers"] + second["answers"]}) > 6
    assert post(two, "draw", {"inputs": [ROWS[0]] * 6, "seed": first["seed"]})[1] == first
    assert bundle.predict([ROWS[0]] * 6, program="draw", seed=first["seed"]) == first["answers"]


def test_the_same_seed_draws_the_same_alone_and_among_others(two):
    alone = [post(two, "draw", {"inputs": [ROWS[i % 3]], "seed": i})[1] for i in range(24)]
    together = [None] * 24

    def ask(i):
        together[i] = post(two, "draw", {"inputs": [ROWS[i % 3]], "seed": i})[1]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    lines = two.request("GET", "/metrics")[2].decode().splitlines()
    sizes = 'suite_batch_records_bucket{le="1.0",model="two",program="draw"} '
    batches = 'suite_batch_records_count{model="two",program="draw"} '
    counts = [next(float(line.split()[-1]) for line in lines if line.startswith(name)) for name in (sizes, batches)]
    assert counts[0] < counts[1], "some were computed in company"


@pytest.mark.parametrize(
    ("seed", "code", "field"),
    [
        (-1, "invalid_seed", "seed"),
        (1 << 32, "invalid_seed", "seed"),
        (0.5, "invalid_seed", "seed"),
        (1e300, "invalid_seed", "seed"),
        ("1", "wrong_type", "seed"),
        (True, "wrong_type", "seed"),
        (None, "wrong_type", "seed"),
        ([1, 2], "uneven", "seed"),
        ([1, 2, "x"], "wrong_type", "seed[2]"),
    ],
)
def test_seeds_that_are_none(two, seed, code, field):
    status, answered = post(two, "draw", {"inputs": ROWS, "seed": seed})
    assert (status, answered["error"]["code"], answered["error"]["field"]) == (400, code, field)
    assert answered["error"]["fix"]


def test_a_model_that_draws_nothing_takes_no_seed(two):
    status, answered = post(two, "predict", {"inputs": ROWS, "seed": 1})
    assert (status, answered["error"]["code"], answered["error"]["field"]) == (400, "unknown", "seed")
    assert post(two, "predict", form(("digits", "1|2"), ("seed", "1")), MULTIPART)[0] == 400


def test_seeds_of_forms(two, bundle):
    by_form = lambda *parts: post(two, "draw", form(*parts), MULTIPART)
    status, answered = by_form(("digits", "1|2|3"), ("seed", "5"))
    assert status == 200 and answered["answers"] == bundle.predict([ROWS[0]], program="draw", seed=5)
    each = by_form(("digits", "1|2|3"), ("seed", "5"), ("digits", "1|2|3"), ("seed", "6"))[1]
    assert each["seed"] == [5, 6] and each["answers"] == bundle.predict([ROWS[0]] * 2, program="draw", seed=[5, 6])
    table = by_form(("file", "rows.csv", "digits\n1|2|3\n0|0|1|3\n"), ("seed", "5"))[1]
    assert table["seed"] == [5, 5] and table["answers"] == bundle.predict(ROWS[:2], program="draw", seed=5)
    assert len(set(by_form(("digits", "1|2|3"))[1]["seed"])) == 1
    for wrong in ("", "x", "-1", "4294967296", "9" * 400, b"\xff", "²"):
        status, answered = by_form(("digits", "1|2|3"), ("seed", wrong))
        assert (status, answered["error"]["field"]) == (400, "seed"), wrong
    assert by_form(("seed", "5"))[0] == 400


def test_a_file_alone_goes_without_a_seed(two, bundle):
    """Tables as bodies have no place for one: each record is drawn by a seed of its own, which the answer names."""
    status, answered = post(two, "draw", b"digits\n1|2|3\n0|0|1|3\n", "text/csv")
    assert status == 200
    assert answered["answers"] == bundle.predict(ROWS[:2], program="draw", seed=answered["seed"])


def test_the_description_names_programs_and_seeds(two):
    paths = two.get("/openapi.json")[1]["paths"]
    draw, predict = (paths[f"/v1/models/two:{name}"]["post"] for name in ("draw", "predict"))
    assert draw["operationId"] != predict["operationId"]
    request = draw["requestBody"]["content"]["application/json"]["schema"]
    for seed, right in ((0, True), ((1 << 32) - 1, True), ([1], True), (-1, False), (1 << 32, False), ("1", False)):
        assert jsonschema.Draft202012Validator(request).is_valid({"inputs": ROWS[:1], "seed": seed}) == right
    assert "seed" in draw["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    jsonschema.validate(
        post(two, "draw", {"inputs": ROWS})[1], draw["responses"]["200"]["content"]["application/json"]["schema"]
    )
    properties = predict["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(properties) == {"inputs"}


def test_requests_are_counted_by_program(two):
    post(two, "draw", {"inputs": ROWS})
    post(two, "predict", {"inputs": ROWS})
    post(two, "drew", {"inputs": ROWS})
    lines = two.request("GET", "/metrics")[2].decode()
    for labels in (
        'code="200",model="two",program="draw"',
        'code="200",model="two",program="predict"',
        'code="404",model="two",program=""',
    ):
        assert f"suite_requests_total{{{labels}}}" in lines
    for program in ("draw", "predict"):
        assert f'suite_queue_records{{model="two",program="{program}"}} 0.0' in lines


def test_what_is_served_is_warm(bundle, monkeypatch):
    """Each program in each length for each size; afterwards nothing is compiled any more."""
    from suite.runtime.compilation import CompileWatch
    from suite.serving.models import Models
    from suite.serving.monitoring import Monitor
    from suite.serving.settings import Settings

    async def asked():
        settings = Settings(sizes=(1, 4), allow=OWN)  # those of the server above, whose programs are in the cache
        models = Models([str(bundle.folder)], settings, Monitor(settings.sizes))
        models.open()
        await models.warm()
        with CompileWatch() as watch:
            for endpoint in models.version("two").endpoints.values():
                for row in ([1], [1] * 9, [1] * 12):
                    rows = endpoint.rows({"digits": [row] * 4}, [1, 2, 3, 4])
                    for count in (1, 4):
                        await endpoint.batcher.submit(rows[:count]).answers(30, 30)
        models.close("the end.")
        models.let_go()
        return watch.compilations

    assert asyncio.run(asked()) == 0


def test_a_program_draws_for_tensors_as_for_records(two):
    """By the Open Inference Protocol, whose parameters are single values: several seeds have commas between them."""
    rows = {"name": "digits", "shape": [3], "datatype": "BYTES", "data": [json.dumps(row) for row in ROWS]}

    def drawn(**parameters):
        body = json.dumps({"inputs": [rows], "parameters": parameters})
        status, _, answered = two.request("POST", "/v2/models/two:draw/infer", body.encode())
        return status, json.loads(answered)

    status, first = drawn()
    assert status == 200 and first["model_name"] == "two:draw"
    assert drawn(**first["parameters"])[1] == first
    seeds = [int(seed) for seed in first["parameters"]["seed"].split(",")]
    expected = post(two, "draw", {"inputs": ROWS, "seed": seeds})[1]["answers"]
    assert first["outputs"][0]["data"] == [answer["more"] for answer in expected]
    assert drawn(seed=5)[1]["outputs"][0]["data"] == [
        answer["more"] for answer in post(two, "draw", {"inputs": ROWS, "seed": 5})[1]["answers"]
    ]
    for seed in ("1,2", "x", -1, True):
        assert drawn(seed=seed)[0] == 400, seed
