"""Bundles that explain: the program beside predict, its answers, and the command line over runs and bundles."""

import json

import numpy as np
import pytest

import suite
from suite.bundles.bundle import Bundle
from suite.explaining.explainer import Explainer
from suite.explaining.integrated_gradients import integrated_gradients
from suite.exporting import exporting, refreshing
from tests import untrained

TEXT = "the cast was not good, really"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    one_length = {"pipeline.buckets": (24,), "task.max_length": 24}
    return untrained.untrained(suite.replace(untrained.texts(folder), one_length), folder / "run")


@pytest.fixture(scope="module")
def bundle(texts, tmp_path_factory):
    return exporting.export(texts, tmp_path_factory.mktemp("bundles") / "texts", platforms=("cpu",), explain=True)


def test_a_bundle_explains_as_its_run_does(texts, bundle):
    answer = bundle.predict([TEXT], program="explain")[0]
    explainer = Explainer(texts)
    one = integrated_gradients(explainer, explainer.case({"text": [TEXT]}))
    assert [part["unit"] for part in answer["attributions"]] == [unit.name for unit in one.division.units]
    ours = [part["attribution"] for part in answer["attributions"]]
    np.testing.assert_allclose(ours, one.values, atol=0.02 * np.abs(one.values).max())
    plain = bundle.predict([TEXT])[0]
    assert {name: answer[name] for name in plain} == plain and one.subject.name in answer["explained"]
    assert answer["attributed"] == pytest.approx(answer["score"] - answer["blank_score"], rel=0.02)


def test_a_refreshed_bundle_still_explains(bundle, tmp_path):
    again = refreshing.refresh(bundle.folder, tmp_path / "again", platforms=("cpu",))
    assert again.predict([TEXT], program="explain") == bundle.predict([TEXT], program="explain")


def test_pictures_have_a_map(tmp_path):
    run = untrained.untrained(untrained.images(tmp_path), tmp_path / "run")
    explaining = exporting.export(run, tmp_path / "images", platforms=("cpu",), explain=True)
    source = run.experiment.task.source("validation")
    answer = explaining.predict({"image": source[np.arange(1)]["image"]}, program="explain")[0]
    assert answer["map"].data.startswith(b"\x89PNG") and len(answer["attributions"]) == 16
    assert [output.name for output in explaining.programs["explain"].codec.outputs][-1] == "map"


def test_the_command_explains_a_bundle_and_writes_files(bundle, command, refused, tmp_path):
    out = command("explain", str(bundle.folder), "--input", TEXT, "--json")
    assert {"input", "label", "attributions", "explained"} <= json.loads(out).keys()
    command("explain", str(bundle.folder), "--input", TEXT, "--to", str(tmp_path / "why"))
    assert json.loads((tmp_path / "why" / "explanations.jsonl").read_text())["input"] == TEXT
    assert "suite explain RUN" in refused("explain", str(bundle.folder), "--input", TEXT, "--method", "shapley")
    assert "--input" in refused("explain", str(bundle.folder))
    assert "is for runs" in refused("explain", str(bundle.folder), "--split", "validation")


def test_a_bundle_without_the_program_says_how_to_get_it(tmp_path, refused):
    run = untrained.untrained(untrained.images(tmp_path), tmp_path / "run")
    plain = suite.export(run, tmp_path / "images", platforms=("cpu",))
    assert isinstance(plain, Bundle)
    assert "--explain" in refused("explain", str(plain.folder), "--input", str(tmp_path / "none.png"))
