"""A server of a bundle with models in ONNX: each program by its engine, which is named where models are described."""

import json

import pytest

import suite
from tests import two_programs
from tests.serving.asking import Serving
from tests.untrained import untrained

pytest.importorskip("onnxruntime", reason="reads ONNX: the extra onnx")
ROWS = [[1, 2, 3], [0, 0, 1, 3]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """One program has a model, the other draws random numbers."""
    folder = tmp_path_factory.mktemp("engines")
    run = untrained(two_programs.experiment(), folder / "run")
    return suite.export(run, folder / "two", name="two", platforms=("cpu",), allow=("tests",), engines=("onnxruntime",))


def test_each_program_is_computed_by_its_engine(bundle):
    assert list(bundle.manifest.engines["left_out"]) == ["draw"]
    with Serving(bundle.folder, "--allow", "tests", "--sizes", "1", "4", "--engine", "onnxruntime") as server:
        (listed,) = server.get("/v1/models")[1]["models"]
        assert {name: about["engine"] for name, about in listed["programs"].items()} == {
            "predict": "onnxruntime",
            "draw": "xla",
        }
        status, _, body = server.request("GET", "/metrics")
        line = 'suite_program_info{engine="onnxruntime",model="two",program="predict"} 1.0'
        assert status == 200 and line in body.decode()
        body = json.dumps({"inputs": ROWS}).encode()
        status, _, answered = server.request(
            "POST", "/v1/models/two:predict", body, {"Content-Type": "application/json"}
        )
        answers, expected = json.loads(answered)["answers"], bundle.predict(ROWS)
        assert status == 200 and [each["label"] for each in answers] == [each["label"] for each in expected]
