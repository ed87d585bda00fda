"""The description of what is served is valid, precise, and what a stranger can make of it is answered or refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from suite.contracts.codec import Input
from suite.serving.openapi import record_schema
from suite.serving.settings import Settings
from tests.serving.asking import Serving

HOOKS = '''
"""Bodies that are files: some that can be read, besides the many that can't."""
import schemathesis
from hypothesis import strategies as st
from tests.serving.conftest import png, tone

texts = st.text(min_size=1, max_size=20).map(lambda text: "review,price\\n" + '"' + text.replace('"', "") + '",1\\n')
schemathesis.openapi.media_type("text/csv", texts.map(lambda text: text.encode("utf-8", "ignore")))
for media in ("image/png", "image/jpeg", "image/webp"):
    schemathesis.openapi.media_type(media, st.one_of(st.binary(), st.sampled_from([png(0), png(255, (9, 5))])))
for media in ("audio/wav", "audio/flac"):
    schemathesis.openapi.media_type(media, st.one_of(st.binary(), st.sampled_from([tone(), tone(600, 0.2)])))
'''
# What no schema can say: which bytes are a picture, and which numbers a model has an answer to.
CONFIG = """
[checks]
negative_data_rejection.expected-statuses = [400, 404, 405, 413, 415, 422]

[[operations]]
include-path-regex = "(digits|sounds|clicks):predict"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "/infer$"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "words:predict"
checks.positive_data_acceptance.expected-statuses = ["2xx"]
"""


def test_the_schema_of_a_record():
    others = (("price", "number"), ("shop", "category"), ("tags", "list"))
    inputs = (
        Input(name="text", kind="text", limit=10),
        *(Input(name=name, kind=kind, required=False) for name, kind in others),
    )
    schema = record_schema(inputs, Settings())
    right = [{"text": "a"}, {"text": "", "price": None}, {"text": "a", "price": 3, "shop": 7, "tags": ["x", 1, True]}]
    wrong = [
        {},
        {"price": 3},
        {"text": None},
        {"text": "a" * 11},
        {"text": "a", "price": "3"},
        {"text": "a", "x": 1},
        {"text": "a", "tags": "x"},
        {"text": "a", "tags": [["x"]]},
        {"text": "a", "shop": []},
    ]
    check = jsonschema.Draft202012Validator(schema)
    assert all(check.is_valid(record) for record in right)
    assert not any(check.is_valid(record) for record in wrong)


def test_the_description(server):
    status, made = server.get("/openapi.json")
    assert status == 200 and made["openapi"] == "3.1.0"
    path = made["paths"]["/v1/models/words:predict"]["post"]
    content = path["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data", "text/plain", "text/csv"}
    schema = content["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content["application/json"]["example"], schema)
    answered = server.post("words", content["application/json"]["example"])
    assert answered[0] == 200
    jsonschema.validate(answered[1], path["responses"]["200"]["content"]["application/json"]["schema"])
    assert {"400", "413", "415", "429", "503", "504"} <= set(path["responses"])
    images = made["paths"]["/v1/models/digits:predict"]["post"]["requestBody"]["content"]
    assert {"image/png", "image/jpeg", "multipart/form-data"} <= set(images)


def generated(server, folder, examples):
    """Runs schemathesis with all its checks; the number of cases. A failure is printed whole."""
    (folder / "hooks.py").write_text(HOOKS)
    (folder / "schemathesis.toml").write_text(CONFIG)
    _, schema = server.get("/openapi.json")
    for path in schema["paths"].values():  # a deadline that is too short is no fault of the request
        path.get("post", {}).pop("parameters", None)
    (folder / "openapi.json").write_text(json.dumps(schema))
    command = [
        shutil.which("schemathesis", path=Path(sys.executable).parent),
        "--config-file",
        str(folder / "schemathesis.toml"),
        "run",
        str(folder / "openapi.json"),
        "--url",
        server.url,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        str(examples),
        "--no-color",
        "--continue-on-failure",
        "--suppress-health-check",
        "all",
        "--seed",
        "1",
    ]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) generated", done.stdout).group(1))


def test_generated_requests(server, tmp_path):
    assert generated(server, tmp_path, 4) >= 100
    assert server.ask("words", ["a fine and moving film"])


@pytest.mark.slow
def test_a_thousand_generated_requests(bundles, tmp_path):
    with Serving(*bundles.values(), "--sizes", "1", "4") as server:
        before = server.resident
        count = generated(server, tmp_path, 250)
        print(f"{count} cases")
        assert count >= 1000
        assert server.ask("words", ["a fine and moving film"])
        assert server.resident < before + 150
        assert not [line for line in server.log if "Traceback" in line]
        metrics = server.request("GET", "/metrics")[2].decode()
        assert not re.findall(r'suite_requests_total{code="5\d\d"[^}]*} [1-9]', metrics)
        assert server.stop() == 0
