"""Prediction: losses, outputs, scores, answers and artifacts by the problem that the target poses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.contracts.metric_meaning import METRICS, better
from suite.data.pipeline.dispatches import make_plan
from suite.data.preprocessing.target import Target
from suite.errors import InputError
from suite.evaluation import problems
from suite.evaluation.bootstrap import by_record
from suite.reporting.drawings import drawn
from tests import predicting

RNG = np.random.default_rng(0)
METRIC_NAMES = {
    "number": {"r2", "mae", "rmse", "spearman", "loss"},
    "binary": {
        *("accuracy", "auc", "average_precision", "f1", "precision", "recall", "balanced_accuracy", "brier", "loss"),
        "macro_f1",
    },
    "classes": {"accuracy", "macro_f1", "balanced_accuracy", "loss", "brier"},
    "ordered": {"accuracy", "macro_f1", "balanced_accuracy", "loss", "brier", "rank_mae", "quadratic_kappa"},
    "labels": {"micro_f1", "macro_f1", "hamming", "macro_auc", "loss"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return predicting.table(tmp_path_factory.mktemp("table") / "t.csv")


@pytest.fixture(scope="module")
def fitted(table, tmp_path_factory):
    """Column -> the task whose target is learnt."""
    folder, tasks = tmp_path_factory.mktemp("fitted"), {}
    for column in predicting.PROBLEMS:
        task = predicting.task(table, column)
        task.answer.fit(task.source("train"), column, folder / f"{column}.json")
        answer = dataclasses.replace(task.answer, file=str(folder / f"{column}.json"))
        tasks[column] = dataclasses.replace(task, answer=answer)
    return tasks


def batch_of(task, split="validation"):
    source = task.source(split)
    columns = source[np.arange(len(source))]
    return columns, {**task.encode(columns), "mask": np.ones(len(source), bool), "seed": np.arange(len(source))}


@pytest.mark.parametrize(("column", "kind"), predicting.PROBLEMS.items())
def test_each_problem_is_trained_scored_answered_and_shown(fitted, column, kind):
    task = fitted[column]
    assert task.answer.kind == kind
    columns, batch = batch_of(task)
    width, rows = task.answer.width, len(batch["mask"])
    logits = jnp.asarray(RNG.normal(size=(rows, 2, width)), jnp.float32)
    model = lambda x, rngs=None: logits
    loss, states = jax.jit(lambda: task.loss(model, batch, None))()
    outputs = jax.jit(lambda: task.predict(model, batch))()
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    scores = task.score(outputs, batch)
    assert scores.keys() == METRIC_NAMES[kind] and all(np.isfinite(state.value()) for state in scores.values())
    assert all(better(name) in ("higher", "lower") for name in scores) and scores.keys() <= METRICS.keys()
    assert float(states["loss"].value()) == pytest.approx(float(loss), rel=1e-5)
    answers = task.codec.decode(outputs, columns)
    assert len(answers) == rows and answers[0].keys() == set(task.codec.answer_schema["properties"])
    for artifact in task.artifacts(columns, outputs, batch).values():
        assert drawn(artifact)


@pytest.mark.parametrize("column", predicting.PROBLEMS)
def test_scores_of_records_join_to_those_of_the_whole(fitted, column):
    """What intervals are drawn from is what is reported, and padding rows stay out of both."""
    task = fitted[column]
    _, batch = batch_of(task)
    width, rows = task.answer.width, len(batch["mask"])
    batch["mask"] = np.arange(rows) < rows - 3
    logits = jnp.asarray(RNG.normal(size=(rows, width)), jnp.float32)
    outputs = {name: np.asarray(value) for name, value in task.predict(lambda x, rngs=None: logits, batch).items()}
    whole = {name: state.value() for name, state in task.score(outputs, batch).items()}
    scores = by_record(task, outputs, batch, np.arange(rows - 3))
    assert scores.values() == pytest.approx(whole, rel=1e-9)
    for name, value in whole.items():
        interval = scores.interval(name)
        assert interval.low <= value <= interval.high and interval.low < interval.high, name


@pytest.mark.parametrize(("column", "kind"), predicting.PROBLEMS.items())
def test_members_of_an_ensemble_learn_by_themselves_and_answer_by_their_mean(fitted, column, kind):
    task = fitted[column]
    _, batch = batch_of(task)
    both = jnp.asarray(RNG.normal(size=(len(batch["mask"]), 2, task.answer.width)), jnp.float32)
    alone = [task.loss(lambda x, rngs=None, k=k: both[:, k], batch, None)[0] for k in (0, 1)]
    assert task.loss(lambda x, rngs=None: both, batch, None)[0] == pytest.approx(float(sum(alone)) / 2, rel=1e-5)
    outputs = [problems.outputs(kind, both[:, k : k + 1]) for k in (0, 1)]
    together = problems.outputs(kind, both)
    if kind == "number":
        np.testing.assert_allclose(together["value"], (outputs[0]["value"] + outputs[1]["value"]) / 2, rtol=1e-5)
        return
    share = jax.nn.sigmoid if kind == "labels" else jnp.exp
    mean = (share(outputs[0]["logits"]) + share(outputs[1]["logits"])) / 2
    np.testing.assert_allclose(share(together["logits"]), mean, rtol=2e-5)
    if kind != "labels":
        np.testing.assert_allclose(share(together["logits"]).sum(-1), 1, rtol=1e-5)


def test_ordered_probabilities_are_those_of_passing_each_class():
    logits = np.array([[0.3, -1.0, 2.0]])
    passed = 1 / (1 + np.exp(-logits[0]))
    expected = [1 - passed[0], passed[0] * (1 - passed[1]), passed[0] * passed[1] * (1 - passed[2]), passed.prod()]
    np.testing.assert_allclose(np.exp(problems.ordered_log_probabilities(jnp.asarray(logits)))[0], expected, rtol=1e-5)


@pytest.mark.parametrize("column", ["spam", "kind", "size", "tags"])
def test_balanced_weights_make_each_class_count_as_much(fitted, column):
    """The classes of the training split weigh the same in sum, and 1 a record on average."""
    task = dataclasses.replace(fitted[column], class_weight="balanced")
    _, batch = batch_of(task, "train")
    targets = np.asarray(batch["target"])
    weights = np.asarray(task._weights(jnp.asarray(targets)))[:, 0]
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    if column == "tags":
        np.testing.assert_allclose((weights * targets).sum(0), (weights * (1 - targets)).sum(0), rtol=1e-5)
    else:
        sums = np.bincount(targets, weights)
        np.testing.assert_allclose(sums, sums[0], rtol=1e-5)


@pytest.mark.parametrize(("column", "classes"), [("spam", 2), ("kind", 3), ("size", 3), ("tags", 0), ("price", 0)])
def test_balanced_sampling_draws_as_many_of_each_class(fitted, column, classes):
    task = fitted[column]
    source = task.source("train")
    make = lambda: make_plan(task, source, 8, seed=0, balanced=True)
    if not classes:  # a record has several, or none
        with pytest.raises(InputError, match="sampling shuffle"):
            make()
        return
    drawn = make()._order(0)[0]
    counts = np.bincount(task.strata(source)[drawn[drawn >= 0]])
    assert len(counts) == classes and counts.sum() == len(source) and np.ptp(counts) <= 1


def test_a_number_has_no_class_weights(fitted):
    task = dataclasses.replace(fitted["price"], class_weight="balanced")
    with pytest.raises(InputError, match="there are no classes"):
        task.remarks({"train": task.source("train")})


@pytest.mark.parametrize(("column", "kind"), predicting.PROBLEMS.items())
def test_a_student_that_agrees_with_its_teacher_is_at_the_least_distance(fitted, column, kind):
    task = fitted[column]
    mask = jnp.arange(5) < 4
    theirs = jnp.asarray(RNG.normal(size=(5, task.answer.width)), jnp.float32)
    apart = task.distillation_loss(theirs + 1, theirs, {"mask": mask}, 2.0)
    same = task.distillation_loss(theirs, theirs, {"mask": mask}, 2.0)
    assert apart.shape == (5,) and apart[4] == 0
    np.testing.assert_allclose(same, 0, atol=1e-5)
    if kind != "classes":  # of which all logits may rise alike
        assert (apart[:4] > 0.01).all()


@pytest.mark.parametrize("kind", ["squared", "absolute", "huber"])
def test_a_regression_loss_is_the_same_on_host_and_device(kind):
    errors = np.linspace(-3, 3, 13)
    host = problems.regression_loss(errors, kind, np)
    np.testing.assert_allclose(problems.regression_loss(jnp.asarray(errors, jnp.float32), kind), host, rtol=1e-6)
    expected = {"squared": 9, "absolute": 3, "huber": 2.5}[kind]
    assert host[0] == expected


def test_a_number_is_not_split_by_its_values(table):
    """A value that occurs once would always be trained on: records are held out by chance alone."""
    task = predicting.task(table, "price")
    assert task.split_by_target(task.data) == task.data
    assert predicting.task(table, "kind").split_by_target(task.data) == task.data.with_classes("kind")
    stated = dataclasses.replace(task, answer=Target(problem="classes"))
    assert stated.split_by_target(task.data) != task.data


def test_against_all_others_a_new_value_is_one_of_the_rest(tmp_path):
    """And no class that training does not have."""
    lines = [f"{i},{i},{'abc'[i % 3]},train" for i in range(60)] + [f"{i},1,{'dc'[i % 2]},validation" for i in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y,split", *lines]) + "\n")
    task = predicting.task(tmp_path / "t.csv", "y")
    answer = dataclasses.replace(task.answer, problem="binary", positive="c")
    task = dataclasses.replace(task, answer=answer, data=dataclasses.replace(task.data, split="split"))
    answer.fit(task.source("train"), "y", tmp_path / "y.json")
    task = dataclasses.replace(task, answer=dataclasses.replace(answer, file=str(tmp_path / "y.json")))
    splits = {split: task.source(split) for split in ("train", "validation")}
    assert not any("does not have" in line for line in task.remarks(splits))
