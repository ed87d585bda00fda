"""Linear recommendation: weights in closed form, their scores, and runs that are solved and not trained."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.sparse import csr_matrix

import suite
from suite.data.preprocessing.items import FIRST
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.experiment import recipes, sections
from suite.models import item_weights
from suite.tasks.recommendation import item_solutions, linear
from suite.tasks.recommendation.item_solutions import ease, filter_blocks, largest

RNG = np.random.default_rng(0)
USERS, ITEMS = 40, 13
HAD = (RNG.random((USERS, ITEMS)) < 0.3).astype(np.float32)
HAD[0], HAD[:, 5] = 0, 0  # a user without items, and an item without users


@pytest.mark.parametrize("block", [1024, 4])
def test_ease_is_the_ridge_regression_of_each_item_on_the_others(monkeypatch, block):
    monkeypatch.setattr(item_solutions, "BLOCK", block)
    weights = ease(csr_matrix(HAD), 7.0)
    for item in range(ITEMS):
        others = np.arange(ITEMS) != item
        x = HAD[:, others].astype(np.float64)
        expected = np.linalg.solve(x.T @ x + 7 * np.eye(ITEMS - 1), x.T @ HAD[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-12)
        assert weights[item, item] == 0


@pytest.mark.parametrize("block, powers", [(1024, (0.5, 0.5, 0.5)), (4, (0.25, 0.75, 0.4))])
def test_the_filter_is_the_product_of_the_normalised_matrix(monkeypatch, block, powers):
    monkeypatch.setattr(item_solutions, "BLOCK", block)
    users, items = np.maximum(HAD.sum(1, keepdims=True), 1), np.maximum(HAD.sum(0), 1)
    user, history, candidate = powers
    expected = (HAD / users**user / items**history).T @ (HAD / users**user / items**candidate)
    blocks = list(filter_blocks(csr_matrix(HAD), *powers))
    assert [start for start, _ in blocks] == list(range(0, ITEMS, block))
    np.testing.assert_allclose(np.vstack([rows.toarray() for _, rows in blocks]), expected, atol=1e-6)


def test_the_largest_weights_fall_and_leave_out_the_item_itself():
    rows = RNG.normal(size=(4, 9)).astype(np.float32)
    rows[2, 3:] = 0
    numbers, values = largest(3, rows, 5)
    for row in range(4):
        others = np.delete(np.arange(9), 3 + row)
        others = others[rows[row, others] != 0]
        best = others[np.argsort(-rows[row, others])][:5]
        assert numbers[row, : len(best)].tolist() == best.tolist()
        np.testing.assert_array_equal(values[row, : len(best)], rows[row, best])
    assert (values[2, 3:] == 0).all()


def model_of(config, weights, neighbours=None):
    model = config.build(rngs=nnx.Rngs(0))
    model.weights[...] = weights
    if neighbours is not None:
        model.neighbours[...] = neighbours
    return model


def test_scores_are_sums_of_weights_whatever_rows_are_padded_to():
    weights = RNG.normal(size=(ITEMS, ITEMS)).astype(np.float32)
    items = np.array([[2, 5, 7, 0], [3, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    order = np.argsort(-weights, 1)
    dense = model_of(item_weights.Config(vocab_size=ITEMS), weights)
    sparse = model_of(
        item_weights.Config(vocab_size=ITEMS, neighbours=4), np.take_along_axis(weights, order, 1)[:, :4], order[:, :4]
    )
    kept = np.where(weights >= np.sort(weights, 1)[:, [-4]], weights, 0)
    for model, expected in ((dense, weights), (sparse, kept)):
        scores = np.asarray(jax.jit(model)(items, mask))
        np.testing.assert_allclose(scores, [expected[[2, 5, 7]].sum(0), expected[3], np.zeros(ITEMS)], atol=1e-6)
        wider = np.asarray(jax.jit(model)(np.pad(items, ((0, 2), (0, 5))), np.pad(mask, ((0, 2), (0, 5)))))
        np.testing.assert_array_equal(wider[:3], scores)


def experiment(path, **changes):
    """Users of one of two tastes, who each have half of its items."""
    rng, rows = np.random.default_rng(1), ["who,what"]
    for user in range(60):
        rows += [f"u{user},item {item + 10 * (user % 2)}" for item in rng.permutation(10)[:7]]
    rows += ["u0,item 0", "u0,item 0"]  # what was had twice counts once
    path.write_text("\n".join(rows) + "\n")
    own = {"task.data": Table(path=str(path)), "task.user": "who", "task.item": "what", "task.top": 3}
    return sections.replace(
        recipes.load("recommendation.linear"),
        {**own, "train.loggers": (), "train.baseline": False, "task.strength": 5.0, **changes},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    return suite.train(experiment(folder / "log.csv"), folder / "run")


def test_a_run_that_is_solved_has_one_step_and_its_metrics(run):
    assert run.metrics["train/steps"] == run.metrics["train/best_step"] == 1
    assert run.history["step"] == [1] and run.history["validation/ndcg_20"] == [run.metrics["validation/ndcg_20"]]
    metrics = run.evaluate("test").metrics
    assert metrics["test/recall_5"] > 0.8 and "test/loss" not in metrics


def test_weights_of_a_run_are_those_of_its_training_events(run):
    task = suite.open(run.folder).experiment.task
    source = task.source("train")
    had = np.zeros((len(source), len(task.items.names)))
    for row, numbers in enumerate(task.items.numbers(source.column("events", np.arange(len(source))))[0]):
        had[row, np.array(numbers) - FIRST] = 1
    weights = np.asarray(run.variables[0]["weights"])
    np.testing.assert_allclose(weights[FIRST:, FIRST:], ease(csr_matrix(had), 5.0), atol=1e-6)
    assert not weights[:FIRST].any() and not weights[:, :FIRST].any()


def test_answers_are_of_the_history_as_a_set(run):
    asked = {"history": [["item 0", "item 1"], ["item 1", "item 0", "item 0", "item 1"], [], ["none such"]]}
    first, again, empty, strange = run.predict(asked)
    assert first == again and len(first["items"]) == 3
    assert {int(entry["item"].split()[1]) // 10 for entry in first["items"]} == {0}
    assert not {"item 0", "item 1"} & {entry["item"] for entry in first["items"]}
    popular = suite.open(run.folder).experiment.task.items.names[:3]
    assert [entry["item"] for entry in empty["items"]] == popular and strange["unseen"] == 1


def test_a_bundle_answers_as_the_run_does(run, tmp_path):
    folder = suite.export(run.folder, to=tmp_path / "bundle").folder
    asked = {"history": [["item 3", "item 14"], ["item 7"], []]}
    assert json.dumps(suite.open(folder).predict(asked)) == json.dumps(run.predict(asked))


def test_a_run_that_is_solved_is_reported_resumed_and_compared_with_baselines(run):
    assert "How popular is what is recommended?" in suite.report(run.folder).read_text()
    before = np.asarray(run.variables[0]["weights"])
    resumed = suite.resume(run.folder)
    np.testing.assert_array_equal(resumed.variables[0]["weights"], before)
    assert resumed.metrics["train/steps"] == 1
    assert [entry.name for entry in suite.baseline(run).baselines] == [
        "most popular",
        "item cosine, recent items first",
    ]


@pytest.fixture(scope="module")
def refitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refitted")
    changes = {"task.refit": True, "task.method": "filter", "model.neighbours": 20}
    return suite.train(experiment(folder / "log.csv", **changes), folder / "run")


def test_the_outcome_learns_from_validation_once_it_is_measured(refitted, capsys):
    task = suite.open(refitted.folder).experiment.task
    source = task.solved_records()
    users = source[np.arange(len(source))]
    events = {(user, item) for user, row in zip(users["user"], users["events"], strict=True) for item in row}
    held = task.source("validation")[np.arange(len(task.source("validation")))]
    assert {(user, item) for user, row in zip(held["user"], held["items"], strict=True) for item in row} <= events
    had = np.zeros((len(source), len(task.items.names)))
    for row, numbers in enumerate(task.items.numbers(users["events"])[0]):
        had[row, np.array(numbers) - FIRST] = 1
    (_, rows), *_ = filter_blocks(csr_matrix(had))
    expected = rows.toarray()
    np.fill_diagonal(expected, 0)
    weights, neighbours = refitted.variables[0]["weights"], refitted.variables[1]["neighbours"]
    assert neighbours.dtype == np.int32
    kept = np.zeros((FIRST + len(expected), FIRST + len(expected)))
    np.add.at(kept, (np.arange(len(kept))[:, None], neighbours), weights)
    np.testing.assert_allclose(kept[FIRST:, FIRST:], expected, atol=1e-6)
    assert refitted.metrics["validation/ndcg_20"] < refitted.evaluate("validation").metrics["validation/ndcg_20"]
    assert "computed from it, too" in capsys.readouterr().err
    with pytest.raises(InputError, match="no comparison") as refused:
        suite.baseline(refitted)
    assert refused.value.fix.endswith("--split test")


def test_neighbours_are_exported_and_answer_alike(refitted, tmp_path):
    folder = suite.export(refitted.folder, to=tmp_path / "bundle").folder
    asked = {"history": [["item 3", "item 14"], ["item 7"], []]}
    assert json.dumps(suite.open(folder).predict(asked)) == json.dumps(refitted.predict(asked))


def test_a_catalogue_too_large_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "DENSE", 10)
    monkeypatch.setattr(item_weights, "DENSE", 10)
    for changes in ({}, {"task.method": "filter"}):
        with pytest.raises(InputError, match="20 items, more than 10") as refused:
            suite.train(experiment(tmp_path / "log.csv", **changes), tmp_path / "run")
        assert refused.value.fix == "--task.method filter --model.neighbours 500"
    assert not (tmp_path / "run").exists()
    changes = {"task.method": "filter", "model.neighbours": 500}  # more than there are
    suite.train(experiment(tmp_path / "log.csv", **changes), tmp_path / "run")


def test_users_with_longer_histories_are_counted(tmp_path, capsys):
    suite.train(experiment(tmp_path / "log.csv", **{"task.max_length": 3}), tmp_path / "run")
    assert "users had more than 3 items, of which the latest alone are read" in capsys.readouterr().err
