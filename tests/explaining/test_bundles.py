"""Bundles that explain: the program beside predict, its answers, and the command line over runs and bundles."""

import json

import numpy as np
import pytest

import suite
from suite.bundles.bundle import Bundle
from suite.data.preprocessing.target import Target
from suite.errors import InputError
from suite.explaining.explainer import Explainer
from suite.explaining.integrated_gradients import integrated_gradients
from suite.exporting import exporting, refreshing
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Refused
from suite.workflow import explaining
from tests import predicting, untrained

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


def test_the_command_tells_of_a_bundle_what_it_tells_of_a_run(texts, bundle, command, tmp_path):
    """How many parts more there are, how complete they are, and as many records as are asked for."""
    words = "so it was " * 3
    (tmp_path / "new.csv").write_text("text\n" + "".join(f"the cast was not good and {words}{i}\n" for i in range(3)))
    for opened in (texts, bundle):
        explained = explaining.explain(opened, str(tmp_path / "new.csv"), records=2)
        assert len(explained) == 2
        for one in explained:
            assert any(line.endswith(" more") for line in one.lines) and "completeness error" in "\n".join(one.lines)
    out = command("explain", str(bundle.folder), "--input", str(tmp_path / "new.csv"), "--records", "1", "--json")
    assert json.loads(out)["input"].endswith("0")


@pytest.mark.parametrize("text", ["   ", ""])
def test_a_blank_record_is_refused_by_every_door(text, texts, bundle):
    with pytest.raises(InputError, match='input "text": holds nothing') as refused:
        explaining.explain(texts, text)
    with pytest.raises(InputError, match='input "text": holds nothing') as again:
        bundle.predict([text], program="explain")
    assert refused.value.fix == again.value.fix and refused.value.fix
    with pytest.raises(Refused) as answered:  # as a server does
        Endpoint(bundle.programs["explain"], None, None).rows({"text": [text]}, [0])
    assert (answered.value.status, answered.value.field, answered.value.fix) == (
        400,
        "inputs[0].text",
        refused.value.fix,
    )
    assert bundle.predict([text])  # an answer it has


def test_a_number_is_explained_in_the_unit_of_its_target(tmp_path):
    experiment = predicting.experiment(predicting.table(tmp_path / "t.csv"), "price")
    run = untrained.untrained(experiment, tmp_path / "run")
    record = {"a": [0.3], "b": [-0.7]}
    said = run.predict(record)[0]["price"]
    one = explaining.explain(run, str(_file(tmp_path, record)))[0].explanation
    assert one.subject.score == pytest.approx(said, rel=1e-5) and one.completeness < 0.01
    assert one.values.sum() == pytest.approx(said - one.subject.blank, rel=0.01)
    with pytest.raises(InputError, match="names a class, and this model answers with one number"):
        explaining.explain(run, str(_file(tmp_path, record)), chosen="high")
    bundle = exporting.export(run, tmp_path / "bundle", platforms=("cpu",), explain=True, allow=("tests",))
    answer = bundle.predict(record, program="explain")[0]
    assert answer["score"] == pytest.approx(answer["price"], rel=1e-5) == pytest.approx(said, rel=1e-5)
    assert answer["attributed"] == pytest.approx(one.values.sum(), rel=0.02) and answer["completeness_error"] < 0.02
    assert answer["explained"].startswith("price, by")


def test_a_number_that_is_learnt_on_no_line_says_on_which_scale_it_is_explained(tmp_path):
    plain = predicting.experiment(predicting.table(tmp_path / "t.csv"), "price")
    experiment = suite.replace(plain, {"task.answer": Target(scaling="log")})
    run = untrained.untrained(experiment, tmp_path / "run")
    one = explaining.explain(run, str(_file(tmp_path, {"a": [0.3], "b": [-0.7]})))[0]
    assert one.content["explained"] == "the standardised logarithm of price" and abs(one.content["score"]) < 20


def test_a_recording_whose_samples_are_read_is_explained_in_time(tmp_path):
    """A model of frames has bands besides."""
    units = {}
    for name, made in (("samples", untrained.waveforms), ("frames", untrained.keywords)):
        (tmp_path / name).mkdir()
        run = untrained.untrained(made(tmp_path / name), tmp_path / name / "run")
        wav = str(next((tmp_path / name / "speech").glob("*.wav")))
        one = explaining.explain(run, wav)[0].explanation
        assert np.isfinite(one.values).all() and one.values.any()
        units[name] = len(one.division.units)
    assert units == {"samples": 12, "frames": 48}


def _file(folder, record):
    path = folder / "record.csv"
    path.write_text("a,b\n" + ",".join(str(values[0]) for values in record.values()) + "\n")
    return path


def test_answers_that_are_not_explained_are_named(tmp_path):
    run = untrained.untrained(untrained.continuations(tmp_path), tmp_path / "run")
    for text in ("once upon a time", "   "):
        with pytest.raises(InputError, match="something else") as refused:
            explaining.explain(run, text)
        assert "Goes on with a text" in str(refused.value) and "text.classify" in refused.value.fix
    with pytest.raises(InputError, match="something else"):
        exporting.export(run, tmp_path / "bundle", platforms=("cpu",), explain=True)
