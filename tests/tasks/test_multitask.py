"""Several goals at once: own events from the command line, labels that are missing, funnels, baselines, bundles."""

import csv
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.evaluation.baselines import measure
from suite.evaluation.goals import losses, over_all_records
from suite.tasks.recommendation.multitask import Multitask
from tests import pages

CITIES = ("Rome", "Oslo", "Lima", "Baku")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Clicks by city, conversions of clicks by tag, minutes of those who clicked; a fifth of the conversions is not
    known."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("events") / "events.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["city", "tag", "price", "click", "conversion", "minutes"])
        for place in range(600):
            city, tag = rng.integers(0, 4), rng.integers(0, 3)
            click = rng.random() < (0.9, 0.2, 0.7, 0.4)[city]
            bought = click and rng.random() < (0.8, 0.5, 0.1)[tag]
            conversion = int(bought) if place % 5 else ""
            table.writerow(
                [
                    CITIES[city],
                    "xyz"[tag],
                    round(rng.random(), 4),
                    int(click),
                    conversion,
                    10 * (tag + 1) if click else "",
                ]
            )
    return path


@pytest.fixture(scope="module")
def run(events, tmp_path_factory):
    """suite train recommendation.multitask --data events.csv --task.labels click conversion minutes"""
    changes = {
        "task.data": Table(path=str(events)),
        "task.labels": ("click", "conversion", "minutes"),
        "task.goals.funnel": ("click", "conversion"),
        "task.decision.calibration": "temperature",
        "task.decision.threshold": "f1",
        "train.steps": 60,
        "train.batch_size": 64,
        "train.log_every": 30,
        "train.baseline": False,
        "optim.learning_rate": 2e-2,
        "optim.warmup_steps": 2,
    }
    experiment = suite.replace(suite.load("recommendation.multitask", smoke=True), changes)
    return suite.train(experiment, tmp_path_factory.mktemp("run") / "run")


def test_each_goal_is_measured_over_the_records_that_have_it(run):
    found = run.evaluate("test").metrics
    assert found["test/click.auc"] > 0.7 and found["test/conversion.auc"] > 0.7
    assert found["test/conversion_after_click.auc"] > 0.7 and found["test/minutes.mae"] < 8
    assert run.evaluate("test", 7).metrics == pytest.approx(found, rel=1e-5)
    source = run.experiment.task.source("test")
    records = source[np.arange(len(source))]
    answers = run.predict({name: records[name] for name in ("city", "tag", "price")})
    clicked = np.asarray(records["click"], float)
    said = np.array([answer["click"] for answer in answers])
    assert found["test/click.brier"] == pytest.approx(((said - clicked) ** 2).mean(), abs=1e-5)
    known = np.isfinite(np.asarray(records["minutes"], float))
    errors = np.array([answer["minutes"] for answer in answers])[known] - np.asarray(records["minutes"])[known]
    assert 0 < known.sum() < len(known) and found["test/minutes.mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)


def test_an_answer_has_each_goal_and_each_step_of_the_funnel(run):
    (answer,) = run.predict([{"city": "Rome", "tag": "x"}])
    assert list(answer) == ["click", "conversion", "minutes", "conversion_after_click", "unseen"]
    assert answer["conversion_after_click"] == pytest.approx(answer["conversion"] / answer["click"], abs=1e-4)
    (strange,) = run.predict([{"city": "Atlantis", "tag": None}])
    assert strange["unseen"] == 1 and 0 <= strange["conversion"] <= strange["click"] <= 1


def test_a_bundle_answers_as_the_run(run, tmp_path):
    record = {"city": "Oslo", "tag": "y"}
    bundle = suite.export(run.folder, tmp_path / "bundle", platforms=("cpu",))
    (expected,), (answer,) = run.predict([record]), bundle.predict([record])
    assert answer == pytest.approx(expected, abs=1e-5)


def test_a_report_shows_each_goal(run):
    page = pages.read(suite.report(run.folder, "test"))
    for title in (
        "click: can its probabilities be trusted?",
        "conversion: precision-recall and ROC curves",
        "minutes: predicted and actual",
    ):
        assert title in page.words
    assert "AUC of click" in page.words


def test_what_is_learnt_at_the_end_is_of_each_event(run):
    parts = json.loads((run.folder / "assets" / "decision.json").read_text())["goals"]
    assert [set(part) >= {"temperature", "thresholds"} for part in parts] == [True, True, False]


def test_baselines_are_fitted_to_the_records_that_have_the_label(run):
    task = run.experiment.task
    one, other = measure(task, task.source("train"), task.source("test"))
    found = other.scores.values()
    assert "one a label" in other.name and found["click.auc"] > 0.7 and found["minutes.mae"] < 6
    assert one.scores.values()["click.auc"] == 0.5
    assert math.isfinite(other.scores.interval("conversion.auc").low)  # records without the label have no row


@pytest.mark.parametrize("kind", ["shared_bottom", "separate"])
def test_other_models_take_the_same_records(kind, run):
    changed = suite.replace(run.experiment, {"model.kind": kind})
    model = changed.model.build(rngs=nnx.Rngs(0))
    batch = {**run.experiment.task.encode(run.experiment.task.source("test")[np.arange(8)]), "mask": np.ones(8, bool)}
    loss, states = changed.task.loss(model, {name: jnp.asarray(value) for name, value in batch.items()}, None)
    assert np.isfinite(loss) and {"loss", "click.loss", "minutes.loss"} <= states.keys()


def test_a_missing_label_teaches_nothing_of_its_goal(run):
    task = run.experiment.task
    batch = {name: jnp.asarray(value) for name, value in task.encode(task.source("train")[np.arange(64)]).items()}
    batch["mask"] = jnp.ones(64, bool)
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((64, 3)), jnp.float32)
    gradient = np.asarray(jax.grad(lambda x: task.loss(lambda *_, **__: x, batch, None)[0])(logits))
    known = np.asarray(batch["known"])
    assert not known.all() and not gradient[:, 2][~known[:, 2]].any() and gradient[:, 2][known[:, 2]].all()
    assert gradient[:, 0].all()


def test_the_weights_of_goals_are_those_of_their_mean_losses(run):
    plain = run.experiment.task
    task = suite.replace(run.experiment, {"task.weights": (2.0, 0.0, 1.0)}).task
    source = plain.source("train")
    batch = {name: jnp.asarray(value) for name, value in plain.encode(source[np.arange(len(source))]).items()}
    batch["mask"] = jnp.ones(len(source), bool)
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((len(source), 3)), jnp.float32)
    model = lambda *_, **__: logits
    each = {name: float(state.value()) for name, state in plain.loss(model, batch, None)[1].items()}
    mean = sum(each[f"{name}.loss"] for name in plain.labels)
    assert float(plain.loss(model, batch, None)[0]) == pytest.approx(mean, rel=1e-5)
    weighted = 2 * each["click.loss"] + each["minutes.loss"]
    assert float(task.loss(model, batch, None)[0]) == pytest.approx(weighted, rel=1e-5)
    outputs = {name: np.asarray(value) for name, value in plain.predict(model, batch).items()}
    bare = suite.replace(run.experiment, {"task.decision.file": ""}).task
    assert bare.score(outputs, batch)["loss"].value() == pytest.approx(mean, rel=1e-5)


def test_a_later_event_has_the_product_of_probabilities_over_all_records():
    logits = jnp.asarray([[0.3, -1.0, 7.0, 2.0], [30.0, 40.0, 1.0, 50.0], [-60.0, 2.0, 0.0, -80.0]])
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    made = np.asarray(over_all_records(logits, (1, 0, 3)), np.float64)
    shares = 1 / (1 + np.exp(-made))
    np.testing.assert_allclose(shares[:, 0], p[:, 1] * p[:, 0], rtol=2e-5)
    np.testing.assert_allclose(shares[:, 3], p[:, 1] * p[:, 0] * p[:, 3], rtol=2e-5)
    np.testing.assert_array_equal(made[:, [1, 2]], np.asarray(logits)[:, [1, 2]])
    gradient = jax.grad(lambda x: losses(over_all_records(x, (1, 0, 3)), jnp.ones_like(x), np.ones(4, bool)).sum())
    assert np.isfinite(gradient(logits)).all()


def test_records_without_any_label_are_dropped_and_counted(tmp_path):
    rows = [f"{'ab'[place % 2]},{place % 2 if place % 4 else ''},{place if place % 8 else ''}" for place in range(80)]
    (tmp_path / "train.csv").write_text("\n".join(["city,click,minutes", *rows]) + "\n")
    source = Multitask(data=Table(path=str(tmp_path), validation=0), labels=("click", "minutes")).source("train")
    assert len(source) == 70 and source.dropped["no label"] == 10


def test_wrong_labels_and_weights_are_refused(refused, tmp_path, events):
    given = ["train", "recommendation.multitask", "--data", events, "--run-dir", tmp_path / "r"]
    printed = refused(*given, "--task.labels", "click", "convers")
    assert 'field task.labels: column "convers" is not in events.csv.' in printed
    assert "--task.labels click conversion" in printed
    printed = refused(*given, "--task.labels", "click", "minutes", "--task.weights", "1")
    assert "holds one weight a label" in printed and "--task.weights 1 1" in printed
    for labels in (("click",), ("click", "click"), ("click", "unseen")):
        with pytest.raises(InputError, match=r"field task\.labels"):
            Multitask(data=Table(path=str(events)), labels=labels)
