"""Answers of a plug-in (tests/plugin_answers.py): files, kinds, artifacts and metrics that the suite doesn't know."""

import base64
import json

import jsonschema
import pytest

import suite
from suite.contracts.signature import File, Output
from suite.errors import InputError
from suite.serving.predict_protocol import asked_file
from suite.workflow import folders
from tests import pages, plugin_answers
from tests.plugin_answers import png, wav
from tests.serving.asking import Serving
from tests.untrained import untrained

OWN = ("tests",)
ROWS = [[1, 2, 3], [0, 0, 1, 3]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(plugin_answers.experiment(steps=4, eval_every=4), tmp_path_factory.mktemp("plugin") / "run")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    made = untrained(plugin_answers.experiment(), folder / "run")
    return suite.export(made, folder / "shows", name="shows", platforms=("cpu",), allow=OWN)


@pytest.fixture(scope="module")
def server(bundle):
    with Serving(bundle.folder, "--allow", "tests", "--sizes", "1", "4") as made:
        yield made


def test_a_decoder_sees_what_was_asked(run):
    whole = run.predict([*ROWS, *ROWS])
    assert [answer["same"] for answer in whole] == [*ROWS, *ROWS]
    assert [answer["picture"] for answer in whole[:2]] == [File("image/png", png(row)) for row in ROWS]
    assert run.predict(ROWS) == whole[:2]


def test_files_in_json(server, bundle):
    expected = bundle.predict(ROWS)
    made = server.ask("shows", ROWS)
    assert [base64.b64decode(answer["picture"]["data"]) for answer in made] == [png(row) for row in ROWS]
    assert [answer["sound"]["media_type"] for answer in made] == ["audio/wav"] * 2
    assert [answer["same"] for answer in made] == ROWS and made[0]["label"] == expected[0]["label"]
    jsonschema.validate(made[0], bundle.codec.answer_schema)
    accepted = server.post("shows", {"inputs": ROWS}, Accept="image/png")
    assert [answer["same"] for answer in accepted[1]["answers"]] == ROWS, "of two records, JSON whatever is accepted"


def test_files_and_structure_in_tensors(server):
    """By the Open Inference Protocol: files as they are behind the JSON, or in base64 within it."""
    rows = {"name": "digits", "shape": [2], "datatype": "BYTES", "data": [json.dumps(row) for row in ROWS]}
    outputs = [{"name": name} for name in ("picture", "same", "order", "logits")]

    def asked(binary):
        body = json.dumps({"inputs": [rows], "outputs": outputs, "parameters": {"binary_data_output": binary}})
        status, headers, answered = server.request("POST", "/v2/models/shows/infer", body.encode())
        assert status == 200, answered
        length = int(headers.get("inference-header-content-length", len(answered)))
        return {each["name"]: each for each in json.loads(answered[:length])["outputs"]}, answered[length:]

    plain, behind = asked(False)
    assert behind == b"" and [base64.b64decode(data) for data in plain["picture"]["data"]] == [png(row) for row in ROWS]
    assert plain["picture"]["parameters"] == {"content_type": "image/png"}
    assert [json.loads(data) for data in plain["same"]["data"]] == ROWS
    assert json.loads(plain["order"]["data"][0])[0] == {"item": 1, "score": 1.0}
    assert plain["logits"]["shape"] == [2, 2] and len(plain["logits"]["data"]) == 4
    binary, behind = asked(True)
    size = len(png(ROWS[0]))
    assert behind[:4] == size.to_bytes(4, "little") and behind[4 : 4 + size] == png(ROWS[0])
    assert sum(each["parameters"]["binary_data_size"] for each in binary.values()) == len(behind)


def test_a_file_alone(server):
    def asked(accept):
        body = json.dumps({"inputs": [ROWS[0]]})
        headers = {"Content-Type": "application/json", "Accept": accept}
        return server.request("POST", "/v1/models/shows:predict", body, headers)

    status, headers, body = asked("image/png")
    assert (status, headers["content-type"], body) == (200, "image/png", png(ROWS[0]))
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    assert asked("audio/wav, application/json;q=0.5")[2] == wav(ROWS[0])
    assert asked("audio/*")[2] == wav(ROWS[0])
    for accept in (
        "*/*",
        "application/json",
        "image/jpeg",
        "text/html, */*",
        "image/png;q=0",
        "image/png;q=0.2, application/json",
    ):
        assert asked(accept)[1]["content-type"] == "application/json", accept


def test_only_declared_types_are_sent_alone():
    answers = [{"page": File("text/html", b"<script>")}]
    outputs = (Output(name="page", kind="image"),)
    assert asked_file(answers, outputs, b"text/html") is None
    assert asked_file([{"page": File("image/png", b"p")}], outputs, b"image/png;q=x") is None
    assert asked_file([{"page": None}], outputs, b"image/png") is None
    assert asked_file([{"page": File("image/webp", b"p")}], outputs, b"IMAGE/WEBP").data == b"p"


def test_a_kind_of_its_own_is_checked_and_described(server):
    assert server.error("shows", {"inputs": [[1, 7]]}) == (
        400,
        {
            "code": "wrong_digits",
            "message": "must be digits from 0 to 3.",
            "field": "inputs[0].digits",
            "fix": "[0, 3, 1]",
        },
    )
    assert server.error("shows", {"inputs": [[1] * 13]})[0] == 413
    _, about = server.get("/v1/models/shows")
    (asked,) = about["inputs"]
    assert (asked["kind"], asked["widget"], asked["file"], asked["large"]) == ("digits", "list", False, True)
    widgets = {output["name"]: output["widget"] for output in about["outputs"]}
    assert widgets == {
        "label": "verdict",
        "probability": "share",
        "top": "bars",
        "picture": "image",
        "sound": "audio",
        "order": "ranking",
        "same": "facts",
        "logits": "vector",
    }
    assert about["purpose"] == "Puts rows of digits into classes"
    _, described = server.get("/openapi.json")
    path = described["paths"]["/v1/models/shows:predict"]["post"]
    schema = path["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.validate({"inputs": ROWS}, schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid({"inputs": [[7]]})
    content = path["responses"]["200"]["content"]
    assert set(content) == {"application/json", "image/png", "audio/wav", "audio/flac"}
    assert "Accept names" in path["responses"]["200"]["description"]


def test_the_page_may_show_files_and_nothing_else(server):
    policy = server.request("GET", "/")[1]["content-security-policy"]
    assert "img-src data: blob:;" in policy and "media-src data: blob:;" in policy and "default-src 'none'" in policy


def test_files_are_written_beside_the_answers(bundle, command, tmp_path):
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"digits": row}) + "\n" for row in ROWS))
    asked = ("predict", bundle.folder, "--allow", "tests", "--input", tmp_path / "asked.jsonl")
    plain = [json.loads(line) for line in command(*asked).splitlines()]
    assert plain[0]["picture"] == {"media_type": "image/png", "bytes": len(png(ROWS[0]))}
    assert [line["same"] for line in plain] == ["1-2-3", "0-0-1-3"], "as its kind is printed"
    printed = command(*asked, "--to", tmp_path / "out")
    assert (tmp_path / "out" / "answers.jsonl").read_text() == printed
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["picture"] for line in lines] == ["0001-picture.png", "0002-picture.png"]
    assert [(tmp_path / "out" / line["sound"]).read_bytes() for line in lines] == [wav(row) for row in ROWS]
    assert [line["same"] for line in lines] == ROWS
    with pytest.raises(SystemExit) as ended:
        command(*asked, "--to", tmp_path / "out")
    assert ended.value.code == 2


def test_names_of_files(tmp_path):
    answers = [{"../a b": File("image/svg+xml", b"1"), "c": File("application/x-own", b"2")}]
    (line,) = folders.write_answers(answers, tmp_path / "new" / "folder")
    assert line == {"../a b": "0001----a-b.svg", "c": "0001-c.bin"}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        folders.write_answers(answers, tmp_path / "file")


def test_the_card_says_what_an_answer_has(bundle):
    card = (bundle.folder / "model_card.md").read_text()
    assert "- `digits` (digits): 1 to 12 digits" in card and "- `digits`: at most 12 digits" in card
    assert "- `picture` (image, image/png): the digits in grey" in card
    assert "- `sound` (audio, audio/wav or audio/flac)\n" in card and "- `same` (digits)\n" in card


def test_the_report_draws_what_a_plug_in_brings(run):
    path = suite.report(run.folder, "validation", allow=OWN)
    page = pages.read(path)
    assert "There are 57 rows, <b>all</b> told." in page.words, "its own blocks, as text"
    rows = run.experiment.task.source("validation").rows
    assert f"All digits together are {sum(int(row.sum()) for row in rows)}." in page.words, "a registered drawing"
    assert "Share of rows that are called even." in page.words
    assert page.table("validation, .* records").column("value")["evenness"].endswith(" %")
    html = path.read_text()
    assert html.count('<audio controls preload="none" src="data:audio/wav;base64,') == 4
    assert sum(alt == "picture" for alt in page.alts) == 4
    assert '<ol class="items">' in html and "2 numbers of length" in page.words
