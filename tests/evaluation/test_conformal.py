"""Sets and intervals that hold the right answer with a stated probability, and answers that are not sure."""

import dataclasses
import json

import numpy as np
import pytest

import suite
from suite.codecs.answers import class_answers, class_outputs
from suite.data.preprocessing.decision import Decision
from suite.errors import InputError
from suite.evaluation import conformal, deciding
from tests import predicting


def drawn(rng, count, classes=4):
    """Logits (n, c) and classes (n,) that they know something of."""
    right = rng.integers(0, classes, count)
    return rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[right], right


def learnt(tmp_path, content, **asked):
    (tmp_path / "decision.json").write_text(json.dumps(content))
    return Decision(file=str(tmp_path / "decision.json"), **asked)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_new_records_are_covered_as_was_asked_for(coverage, tmp_path):
    """On average over draws of both splits, of classes and of numbers."""
    rng = np.random.default_rng(0)
    classes, numbers = [], []
    for _ in range(200):
        logits, right = drawn(rng, 400)
        probabilities = conformal.of_all_classes(logits)
        reach = conformal.margin(1 - probabilities[np.arange(200), right[:200]], coverage)
        classes.append((probabilities[np.arange(200, 400), right[200:]] >= 1 - reach).mean())
        errors = rng.standard_t(3, 400)
        numbers.append((np.abs(errors[200:]) <= conformal.margin(np.abs(errors[:200]), coverage)).mean())
    for covered in (np.mean(classes), np.mean(numbers)):
        assert coverage - 0.006 < covered < coverage + 1 / 201 + 0.006


def test_few_records_promise_everything():
    assert conformal.margin(np.arange(8.0), 0.9) == np.inf and conformal.margin(np.arange(9.0), 0.9) == 8
    content, _ = conformal.learnt_of_classes(Decision(coverage=0.9), np.full((3, 2), 0.5), np.zeros(3), np.zeros(3))
    assert content["margin"] == "all" == json.loads(json.dumps(content))["margin"]


def test_what_is_promised_has_all_of_its_digits_and_validation_must_be_large_enough(tmp_path):
    """99.9 % is no certainty, and few records of validation support none of it."""
    rng = np.random.default_rng(0)
    for count, told in ((1200, "a probability of 99.9% or more"), (30, "30 records, too few for a coverage of 99.9%")):
        logits, right = drawn(rng, count)
        probabilities = conformal.of_all_classes(logits)
        _, (of_classes,) = conformal.learnt_of_classes(Decision(coverage=0.999), probabilities, right, right)
        _, (of_numbers,) = conformal.learnt_of_numbers(Decision(coverage=0.999), rng.random(count))
        assert told in of_classes and told in of_numbers and "100%" not in of_classes + of_numbers
        assert ("which takes 999" in of_classes) == (count == 30)
    assert (
        "of 99.9% or more"
        in class_outputs(["a", "b"], learnt(tmp_path, {"margin": 0.5}, coverage=0.999))[3].description
    )


def test_an_interval_without_bounds_is_none(tmp_path):
    """JSON has no number for its ends."""
    plain = predicting.experiment(predicting.table(tmp_path / "t.csv"), "price", epochs=1)
    run = suite.train(suite.replace(plain, {"task.decision": Decision(coverage=0.999)}), tmp_path / "run")
    assert list(run.predict({"a": [0.1], "b": [0.2]})[0]) == ["price"]
    assert [output.name for output in run.codec.outputs] == ["price"]


def test_answers_have_the_set_and_say_whether_they_are_sure(tmp_path):
    decision = learnt(tmp_path, {"margin": 0.75, "least": 0.6}, coverage=0.9)
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.34, 0.33, 0.33]])
    answers = class_answers(logits, ["a", "b", "c"], decision=decision)
    assert [answer["set"] for answer in answers] == [["a", "b"], ["c"], ["a", "b", "c"]]
    assert [answer["confidence"] for answer in answers] == ["unsure", "sure", "unsure"]
    assert list(answers[0]) == [output.name for output in class_outputs(["a", "b", "c"], decision)]
    narrow = learnt(tmp_path, {"margin": 0.01}, coverage=0.9)
    assert class_answers(logits, ["a", "b", "c"], decision=narrow)[2]["set"] == ["a"]  # never empty
    early = learnt(tmp_path, {"margin": 0.01, "thresholds": [0.3]}, coverage=0.9, threshold="f1")
    (answer,) = class_answers(np.log([[0.6, 0.4]]), ["no", "yes"], threshold=early.event, decision=early)
    assert answer["label"] == "yes" and answer["set"] == ["no", "yes"], "the answer is in its own set"
    assert class_outputs(["no", "yes"], early)[0].description == "yes from a probability of 0.3 on, else no"
    assert "set" not in class_answers(logits, ["a", "b", "c"], decision=Decision(coverage=0.9))[0]  # not learnt yet


def test_the_share_that_is_right_is_of_what_is_answered():
    """Of two classes by the threshold, not by the likelier one."""
    right = np.repeat([0, 1], [60, 40])
    logits = np.log(np.where(right[:, None] == 1, [[0.6, 0.4]], [[0.9, 0.1]]))  # the second class is never likelier
    evaluated = [({"logits": logits}, {"mask": np.ones(100, bool), "label": right})]
    asked = Decision(threshold="f1", abstention=0.5, coverage=0.9)
    conclusion = deciding.conclude(asked, "event", evaluated, "label")["decision"]
    assert any("against 100.00% of all" in note for note in conclusion.notes), conclusion.notes
    plain = deciding.conclude(Decision(abstention=0.5), "event", evaluated, "label")["decision"]
    assert any("against 60.00% of all" in note for note in plain.notes)


@pytest.mark.parametrize("by", ["probability", "energy"])
def test_familiarity_is_evenly_distributed_over_records_like_validation_and_low_for_others(by, tmp_path):
    rng = np.random.default_rng(0)
    logits, right = drawn(rng, 1500)
    evaluated = [({"logits": logits}, {"mask": np.ones(1500, bool), "label": right})]
    asked = Decision(familiarity=by, calibration="temperature")
    conclusion = deciding.conclude(asked, "classes", evaluated, "label")["decision"]
    decision = learnt(tmp_path, conclusion.content, familiarity=by)
    assert len(decision.strangeness) == 1000 and "how familiar" in conclusion.notes[-1]
    alike, _ = drawn(rng, 2000)
    said = decision.familiarities(alike / decision.temperature)
    assert said.min() > 0 and said.max() <= 1
    np.testing.assert_allclose(np.quantile(said, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.035)
    nothing = {"logits": np.full((3, 4), -3.0)}  # no class speaks for itself
    assert (decision.familiarities(decision.applied(nothing)["logits"]) < 0.02).all()
    answers = class_answers(decision.applied(nothing)["logits"], list("abcd"), decision=decision)
    assert list(answers[0]) == [output.name for output in class_outputs(list("abcd"), decision)]
    assert answers[0]["familiarity"] < 0.02


def test_familiarity_is_the_same_of_one_logit_and_of_two(tmp_path):
    logits = np.linspace(-4, 4, 50)
    batch = {"mask": np.ones(50, bool), "label": (logits > 0).astype(int)}
    columns = np.stack([np.zeros(50), logits], 1)
    stored = [
        deciding.conclude(Decision(familiarity="energy"), "event", [({"logits": one}, batch)], "label")[
            "decision"
        ].content
        for one in (logits, columns)
    ]
    np.testing.assert_allclose(stored[0]["strangeness"], stored[1]["strangeness"])
    decision = learnt(tmp_path, stored[0], familiarity="energy")
    np.testing.assert_allclose(decision.familiarities(columns[-1:]), 1.0)
    np.testing.assert_allclose(decision.familiarities(columns[:1]), 2 / 51)  # it is no less than itself


@pytest.mark.parametrize("strangeness", [[2.0, 1.0], ["a"], [float("nan")], {"a": 1}])
def test_damaged_strangeness_is_refused(tmp_path, strangeness):
    with pytest.raises(InputError, match="strangeness"):
        learnt(tmp_path, {"strangeness": strangeness}, familiarity="energy").strangeness  # noqa: B018


def test_metrics_count_what_was_learnt(tmp_path):
    decision = learnt(tmp_path, {"margin": 0.75, "least": 0.6}, coverage=0.9)
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    states = conformal.class_states(decision, logits, np.array([1, 2, 2, -1]))
    values = {name: state.value() for name, state in states.items()}
    assert values == {"empirical_coverage": 0.5, "set_size": 1.5, "sure_share": 0.5, "sure_accuracy": 0.5}
    assert conformal.class_states(Decision(), logits, np.zeros(4)) == {}


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"coverage": 1.0}, "classes", "coverage: must be a probability from 0 to below 1"),
        (
            {"familiarity": "energy"},
            "labels",
            "familiarity: is by the logits of one class of several, and a record has",
        ),
        ({"coverage": 0.9}, "goals", "coverage: is of one class of several, or of a number; several goals"),
        ({"familiarity": "energy"}, None, "familiarity: is by the logits of one class of several, and a number is"),
        ({"abstention": -0.1}, "classes", "abstention: must be a share from 0 to below 1"),
        ({"coverage": 0.9}, "labels", "a record has several labels"),
        ({"abstention": 0.2}, None, "a number is predicted"),
    ],
)
def test_what_has_no_meaning_is_refused(asked, kind, message):
    with pytest.raises(InputError, match=message):
        deciding.check(Decision(**asked), kind)


@pytest.mark.parametrize(("target", "names"), [("spam", {"set", "confidence"}), ("price", {"price_low", "price_high"})])
def test_runs_and_bundles_answer_with_it(target, names, tmp_path):
    asked = Decision(coverage=0.9, abstention=0.2) if target == "spam" else Decision(coverage=0.9)
    recipe = predicting.experiment(predicting.table(tmp_path / "t.csv"), target, patience=3)
    run = suite.train(
        dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, decision=asked)), tmp_path / "run"
    )
    assert 0.8 <= run.metrics["validation/empirical_coverage"] <= 1.0
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",), allow=("tests",))
    columns = {"a": np.array([0.1, 2.0]), "b": np.array([1.0, -1.0])}
    answers = run.predict(columns)
    assert all(names <= answer.keys() for answer in answers) and bundle.predict(columns) == answers
    if target == "price":
        assert all(answer["price_low"] < answer["price"] < answer["price_high"] for answer in answers)
