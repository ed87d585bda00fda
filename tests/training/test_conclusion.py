"""Conclusion of a training: the threshold and the temperature of a Decision, in the run and its bundle."""

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest

import suite
from suite.contracts.codec import Codec
from suite.data.preprocessing.decision import Decision
from suite.errors import InputError
from suite.evaluation import deciding
from suite.experiment.goal import Goal
from suite.exporting import agreement
from suite.runs.run import open as open_run
from tests import predicting

RNG = np.random.default_rng(0)
ASKED = Decision(threshold="f1", calibration="temperature")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that tells spam, its best checkpoint by macro F1."""
    folder = tmp_path_factory.mktemp("decided")
    recipe = predicting.experiment(predicting.table(folder / "t.csv"), "spam", best="macro_f1", patience=3)
    goal = Goal(metric="macro_f1", at_least=0.6)
    task = dataclasses.replace(recipe.task, decision=ASKED)
    return suite.train(dataclasses.replace(recipe, task=task, goal=goal), folder / "run")


def test_a_run_holds_what_was_learnt_and_is_measured_by_it(trained, capsys):
    stored = json.loads((trained.folder / "assets" / "decision.json").read_text())
    run = open_run(trained.folder, allow=("tests",))
    decision = run.experiment.task.decision
    assert decision.temperature == stored["temperature"] != 1 and decision.event == stored["thresholds"][0] != 0.5
    assert [note.split(",")[0] for note in decision.notes] == [
        f"Probabilities are calibrated by a temperature of {decision.temperature:.3g}",
        f"The class yes is answered from a probability of {decision.event:.3f} on",
    ]
    told = trained.metrics["validation/f1"]
    again = run.evaluate("validation").metrics
    assert again["validation/f1"] == pytest.approx(told) and f"{told:.4f}" in decision.notes[1]
    undecided = dataclasses.replace(run.experiment.task, decision=Decision())
    plain = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, task=undecided))
    before = plain.evaluate("validation").metrics
    assert before["validation/f1"] <= told and before["validation/loss"] >= again["validation/loss"] - 1e-9
    assert before["validation/auc"] == again["validation/auc"]


def test_answers_are_given_by_the_threshold(trained):
    run = open_run(trained.folder, allow=("tests",))
    decision = run.experiment.task.decision
    columns = {"a": RNG.normal(size=200), "b": RNG.normal(size=200)}
    for answer in run.predict(columns):
        assert answer["label"] == ("yes" if answer["top"]["yes"] >= decision.event else "no")
        assert answer["probability"] == answer["top"][answer["label"]]


def test_a_bundle_decides_as_its_run(trained, tmp_path):
    bundle = suite.export(open_run(trained.folder, allow=("tests",)), tmp_path / "bundle", allow=("tests",))
    assert "assets/decision.json" in bundle.manifest.files
    columns = {"a": np.linspace(0, 1.5, 20), "b": np.linspace(0, 1.5, 20)}
    assert agreement.alike(bundle.predict(columns), trained.predict(columns))
    codec = bundle.codec
    assert (
        isinstance(codec, Codec)
        and codec.decision.event == open_run(trained.folder, allow=("tests",)).experiment.task.decision.event
    )


def test_what_cannot_be_decided_is_refused_before_training():
    for kind, problem in (("classes", "of several classes the likeliest is answered"), (None, "a number is predicted")):
        with pytest.raises(InputError, match=problem):
            deciding.check(Decision(threshold="f1"), kind)
    with pytest.raises(InputError, match="is of probabilities"):
        deciding.check(Decision(calibration="temperature"), None)
    deciding.check(Decision(), None)
    deciding.check(Decision(calibration="temperature"), "classes")


def test_nothing_is_computed_where_nothing_is_asked_for():
    def evaluated():
        raise AssertionError("asked")
        yield

    assert deciding.conclude(Decision(), "event", evaluated(), "label") == {}


@pytest.mark.parametrize(("kind", "heat"), [("classes", 3.0), ("event", 0.4), ("two", 2.0), ("labels", 5.0)])
def test_a_temperature_is_found_again(kind, heat):
    """Of labels that are drawn by the probabilities of logits, which are then multiplied."""
    n = 6000
    logits = RNG.normal(size=(n, 3)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = (RNG.random((n, 1)) > shares.cumsum(-1)).sum(-1)
    if kind == "event":
        logits = logits[:, 0]
        right = (RNG.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    elif kind == "two":
        logits = logits[:, :2]
        right = (RNG.random(n) < 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).astype(int)
    elif kind == "labels":
        right = (RNG.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(float)
    batch = {"mask": np.arange(n) < n - 100, "y": right}
    asked = "event" if kind == "two" else kind
    made = deciding.conclude(Decision(calibration="temperature"), asked, [({"logits": logits * heat}, batch)], "y")
    assert made["decision"].content["temperature"] == pytest.approx(heat, rel=0.1)
    errors = re.search(r"error was (0\.\d+) and is (0\.\d+)", made["decision"].notes[0])
    assert float(errors[1]) > 0.03 > float(errors[2])


@pytest.mark.parametrize("aim", ["f1", "balanced_accuracy", "accuracy"])
def test_a_threshold_is_the_best_of_all(aim):
    peers = pytest.importorskip("sklearn.metrics")
    metric = {
        "f1": peers.f1_score,
        "balanced_accuracy": peers.balanced_accuracy_score,
        "accuracy": peers.accuracy_score,
    }[aim]
    shares = np.round(RNG.random(300), 2)
    right = RNG.random(300) < shares**2
    chosen = deciding.best_threshold(shares, right, aim)
    every = [metric(right, shares >= at) for at in np.linspace(-0.005, 1.005, 102)]
    assert metric(right, shares >= chosen) == pytest.approx(max(every))
    assert deciding.best_threshold(shares, right & False, aim) == 0.5


def test_each_label_has_its_threshold():
    shares = RNG.random((400, 2))
    right = shares > [0.3, 0.8]
    logits = np.log(shares / (1 - shares))
    made = deciding.conclude(
        Decision(threshold="f1"), "labels", [({"logits": logits}, {"mask": np.ones(400, bool), "y": right})], "y"
    )
    assert made["decision"].content["thresholds"] == pytest.approx([0.3, 0.8], abs=0.01)
    assert "1.0000, against" in made["decision"].notes[0]


def concluded(right, **fields):
    batch = {"mask": np.ones(len(right), bool), "y": np.array(right)}
    outputs = {"logits": np.linspace(-1, 1, len(right))}
    return deciding.conclude(Decision(**fields), "event", [(outputs, batch)], "y")


def test_records_that_are_all_alike_decide_nothing_and_it_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = concluded([1, 1, 1, 1, 1], threshold="f1")
    assert made["decision"].content["thresholds"] == [0.5]
    assert made["decision"].notes == (
        "The event is answered from a probability of 0.5 on: all records of validation are alike.",
    )


def test_without_a_known_record_nothing_is_concluded():
    assert concluded([-1, -1], calibration="temperature") == {}
