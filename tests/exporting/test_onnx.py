"""Runs as models in ONNX, alone and beside a bundle's programs: what they say is what the run says."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

import suite
from suite.bundles import engines
from suite.bundles.bundle import Bundle
from suite.bundles.engines import distance
from suite.data.pipeline.padding import pad
from suite.errors import InputError, RunError
from suite.exporting import asked as asking
from suite.exporting.onnx import models as models_
from tests.untrained import TASKS, resealed, untrained

onnxruntime = pytest.importorskip("onnxruntime", reason="reads ONNX: the extra onnx")

QUICK = ("images", "texts", "clicks")
"""Of a network of layers, a transformer and tables; the others take longer."""
REFUSED = {"continuations": "draws random numbers", "vocoders": "draws random numbers"}
"""Programs that cannot be written, and why."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that was not trained, by the name of its task; made once."""
    made = {}

    def run(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = untrained(TASKS[name](folder), folder / "run")
        return made[name]

    return run


@pytest.fixture(scope="module")
def beside(runs, tmp_path_factory):
    """A bundle with models in ONNX, one for all lengths."""
    return suite.export(runs("texts"), tmp_path_factory.mktemp("beside") / "bundle", engines=("onnxruntime",))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in TASKS]
)
def test_models_say_what_the_run_says(name, runs, tmp_path):
    """Export compares outputs itself, of held-back records; here a folder as another program would use it."""
    run = runs(name)
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            suite.export(run, tmp_path / "onnx", format="onnx")
        assert not list(tmp_path.iterdir())
        return
    written = suite.export(run, tmp_path / "onnx", format="onnx")
    about = json.loads((tmp_path / "onnx" / "onnx.json").read_text())
    program = about["programs"]["predict"]
    assert about == written.content and program["distance"] <= models_.TOLERANCE
    _, asked = asking.held_back(run)
    rows = run.codec.encode(asking.given(run.codec, asked, np.arange(3)))
    length = program["lengths"][-1]
    batch = pad(
        rows, np.ones(3, bool), {"": length, **{axis: run.buckets[axis][-1] for axis in run.buckets if axis}}, 0
    )
    file = program["files"].get("any") or program["files"][str(length)]
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / file, providers=["CPUExecutionProvider"])
    given = {entry.name: batch[entry.name] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    assert given.keys() <= program["inputs"].keys() and names == sorted(program["outputs"])
    said = dict(zip(names, session.run(names, given), strict=True))
    sides = {"": length, **{axis: run.buckets[axis][-1] for axis in run.buckets if axis}}
    assert distance(said, run.in_float32.outputs(rows, sides, 3, 0)) <= models_.TOLERANCE


def test_one_model_takes_rows_of_any_length(runs, tmp_path):
    program = suite.export(runs("texts"), tmp_path / "onnx", format="onnx").content["programs"]["predict"]
    assert program["files"] == {"any": "predict.onnx"} and program["lengths"] == [8, 16, 24]
    assert program["inputs"]["tokens"]["shape"] == ["b", "length"]


def test_a_model_that_differs_is_not_written(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(models_, "distance", lambda ours, theirs: 2e-4)
    with pytest.raises(RunError, match="the model in ONNX does not answer as the run does, by the program predict"):
        suite.export(runs("images"), tmp_path / "onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "method"), [("texts", "dynamic"), ("residual", "static")])
def test_eight_bits_are_judged(name, method, runs, tmp_path):
    run = runs(name)
    written = suite.export(run, tmp_path / "onnx", format="onnx", int8=True, max_drop=1.0)
    judged = written.content["int8"]
    assert judged["method"] == method and judged["met"] and judged["max_drop"] == 1.0
    assert judged["before"]["value"] == pytest.approx(run.scores(judged["split"]).interval(judged["metric"]).value)
    plain = suite.export(run, tmp_path / "plain", format="onnx")
    files = [folder / "predict.onnx" for folder in (written.folder, plain.folder)]
    narrow, wide = (path.read_bytes() for path in files)
    assert (b"MatMulInteger" if method == "dynamic" else b"DequantizeLinear") in narrow and len(narrow) != len(wide)


def test_flags_of_other_formats_are_refused(runs, tmp_path):
    for options, flag in (
        ({"format": "onnx", "engines": ("onnxruntime",)}, "flag --engines"),
        ({"format": "onnx", "explain": True}, "flag --explain"),
        ({"int8": True}, "flag --int8"),
        ({"format": "onnx", "max_drop": 0.1}, "flag --max-drop"),
        ({"engines": ("tensorrt",)}, "flag --engines"),
    ):
        with pytest.raises(InputError) as error:
            suite.export(runs("images"), tmp_path / "new", **options)
        assert error.value.where == flag
    assert not list(tmp_path.iterdir())


def test_engines_answer_as_the_bundle(beside, runs):
    """By each that is installed; the bundle itself is opened by XLA."""
    sentences = ["good film 1", "bad film 2 and more of it"]
    assert beside.programs["predict"].engine == "xla" and beside.manifest.engines["models"] == {"predict": [0]}
    for engine in engines.installed():
        computed = engines.chosen(beside, engine)
        assert computed.programs["predict"].engine == engine
        for ours, theirs in zip(computed.predict(sentences), beside.predict(sentences), strict=True):
            assert ours["label"] == theirs["label"]
            assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-3)


def test_explanations_are_computed_by_xla_beside_engines(runs, tmp_path):
    both = suite.export(runs("clicks"), tmp_path / "bundle", engines=("onnxruntime",), explain=True, platforms=("cpu",))
    about = both.manifest.engines
    assert list(about["models"]) == ["predict"] and "which XLA computes" in about["left_out"]["explain"]
    computed = engines.chosen(both, "onnxruntime").programs
    assert computed["predict"].engine == "onnxruntime" and computed["explain"].engine == "xla"


def test_openvino_tells_nobody_of_its_use(beside):
    pytest.importorskip("openvino", reason="the extra openvino")
    engines.chosen(beside, "openvino")
    assert sys.modules["openvino_telemetry"] is None


def test_the_fastest_engine_that_agrees_computes(beside, monkeypatch):
    seconds = {"xla": 2.0, "onnxruntime": 1.0}
    monkeypatch.setattr(engines, "installed", lambda: ("onnxruntime",))
    monkeypatch.setattr(engines.Program, "warm", lambda self, sizes, begun=None: {(8, 1): seconds[self.engine]})
    said = []
    warmed, measured = engines.warmed(beside, "auto", (1,), note=said.append)
    program = warmed.programs["predict"]
    assert (program.engine, program.models, measured["predict"]) == ("onnxruntime", {}, {(8, 1): 1.0})
    assert said == ["predict is computed by onnxruntime"]
    seconds["onnxruntime"] = 3.0
    assert engines.warmed(beside, "auto", (1,))[0].programs["predict"].engine == "xla"
    assert engines.warmed(beside, "onnxruntime", (1,))[0].programs["predict"].engine == "onnxruntime"
    assert engines.warmed(beside, "xla", (1,))[0].programs["predict"].engine == "xla"
    seconds["onnxruntime"] = 1.0
    monkeypatch.setattr(engines, "distance", lambda ours, theirs: 1.0)
    assert engines.warmed(beside, "auto", (1,), note=said.append)[0].programs["predict"].engine == "xla"
    assert "does not answer as XLA does" in said[-2]
    with pytest.raises(InputError, match="does not answer as XLA does"):
        engines.warmed(beside, "onnxruntime", (1,))


def test_an_engine_without_models_is_refused(exported):
    _, bundle = exported("texts")
    with pytest.raises(InputError) as error:
        engines.chosen(bundle, "onnxruntime")
    assert "has no models for onnxruntime" in str(error.value) and "--engines onnxruntime" in str(error.value)
    assert engines.chosen(bundle, "auto").programs["predict"].engine == "xla"


def test_a_changed_model_is_not_opened(beside, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(beside.folder, folder)
    file = folder / "program" / "0.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="was changed: its checksum differs"):
        Bundle.open(folder)
    file.write_bytes(b"{}")
    with pytest.raises(InputError, match=r'file "program/0.onnx": is no model in ONNX'):
        Bundle.open(resealed(folder))


def test_distances_are_relative_to_large_outputs():
    one, far = {"y": np.float32([1000.0, 0.5])}, {"y": np.float32([1000.1, 0.5])}
    assert distance(one, far) == pytest.approx(1e-4, rel=0.1)
    assert distance({"y": np.float32([np.nan])}, {"y": np.float32([np.nan])}) == 0
    assert distance({"y": np.float32([np.nan])}, {"y": np.float32([0])}) == float("inf")
    assert distance({}, one) == distance({"y": np.float32([1.0])}, one) == float("inf")


RECIPES = {
    "multimodal.flickr8k_match": "",
    "recommendation.beauty_gru4rec": "",
    "recommendation.beauty_tags": "",
    "recommendation.citeulike_tags": "",
    "recommendation.movielens_din": "",
    "recommendation.movielens_ease": "",
    "recommendation.movielens_lightgcn": "",
    "recommendation.movielens_mmoe": "",
    "recommendation.movielens_sasrec": "",
    "speech.an4_ctc": "",
    "speech.fsdd_wavenet_ctc": "",
    "text.multi30k_translation": "",
    "text.sst2_encoder": "",
    "vision.bccd_lite0": "",
    "vision.cifar10_resnet20": "",
    "vision.fashion_mnist_flow": "draws random numbers",
}
"""Recipes of families that the tasks above have none of, each with the reason why it is not written, if it isn't."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_each_family(recipe, tmp_path):
    """What docs/onnx.md says cannot be written, and all else can."""
    if "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder with the recipes' data")
    run = untrained(suite.load(recipe, smoke=True), tmp_path / "run")
    _, asked = asking.held_back(run)
    if RECIPES[recipe]:
        with pytest.raises(InputError, match=RECIPES[recipe]):
            models_.all_models(run, asked)
        return
    made, left_out = models_.all_models(run, asked)
    assert made["predict"].distance <= models_.TOLERANCE and not left_out
