"""Click prediction: metrics that no batch size changes, own data from the command line, requests, resuming."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import suite
from suite.contracts import metric
from suite.contracts.metric import MetricState
from suite.data.sources.clicks import MovieLens
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.evaluation.metrics import ranking
from suite.evaluation.metrics.events import click_scores
from suite.tasks.recommendation.click import ClickPrediction
from tests import pages

CITIES = ("Rome", "Oslo", "Lima", "Baku")


def shop(count=1500, seed=0):
    """Whether someone clicks is a matter of the city, of what is on offer and of the price."""
    rng = np.random.default_rng(seed)
    city, tag, price = rng.integers(0, 4, count), rng.integers(0, 3, count), rng.random(count) * 9
    odds = np.array([2, -2, 1, -1])[city] + np.array([1.5, 0, -1.5])[tag] - 0.4 * (price - 4.5)
    return {
        "city": [CITIES[i] for i in city],
        "tags": [("sale|red", "red", "new|red")[i] for i in tag],
        "price": price,
        "clicked": (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int),
    }


@pytest.fixture
def parquet(tmp_path):
    pq.write_table(pa.table(shop()), tmp_path / "clicks.parquet")
    return tmp_path / "clicks.parquet"


def test_auc_counts_pairs_ties_by_half():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 8, 60) / 4.0, rng.integers(0, 2, 60)
    ones, zeros = scores[labels == 1], scores[labels == 0]
    pairs = [(a > b) + 0.5 * (a == b) for a in ones for b in zeros]
    assert ranking.auc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert ranking.auc(labels, labels) == 1 and ranking.auc(-labels, labels) == 0
    assert np.isnan(ranking.auc(scores, np.ones(60)))


def test_the_bootstrap_covers_the_area_and_narrows_with_more_rows():
    rng = np.random.default_rng(0)
    widths = []
    for count in (200, 3200):
        labels = rng.integers(0, 2, count)
        scores = labels + 1.5 * rng.standard_normal(count)
        areas = ranking.bootstrap_auc(scores, labels, draws=400)
        low, high = np.quantile(areas, [0.025, 0.975])
        assert low < ranking.auc(scores, labels) < high
        widths.append(high - low)
    assert 3 < widths[0] / widths[1] < 5  # the square root of 16


def test_scores_of_parts_add_to_those_of_the_whole():
    rng = np.random.default_rng(1)
    logits, label = rng.standard_normal(50), rng.integers(0, 2, 50)
    mask = np.arange(50) < 43

    def scored(size):
        sums: dict[str, MetricState] = {}
        for i in range(0, 50, size):
            part = slice(i, i + size)
            made = click_scores({"logits": logits[part]}, {"label": label[part], "mask": mask[part]})
            sums = metric.add(sums, made)
        return {name: tally.value() for name, tally in sums.items()}

    whole = scored(50)
    for size in (1, 7):
        assert scored(size) == pytest.approx(whole, abs=1e-12)
    p = 1 / (1 + np.exp(-logits[mask]))
    y = label[mask]
    assert whole["auc"] == pytest.approx(ranking.auc(p, y))
    assert whole["loss"] == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    assert whole["calibration"] == pytest.approx(p.sum() / y.sum())
    bins = [(p >= i / 20) & (p < (i + 1) / 20) for i in range(20)]
    gaps = sum(b.sum() * abs(p[b].mean() - y[b].mean()) for b in bins if b.any())
    assert whole["calibration_error"] == pytest.approx(gaps / len(p))


def test_own_clicks(command, capsys, tmp_path, parquet):
    """suite train recommendation.click --data clicks.parquet --task.label clicked, and what follows."""
    folder = tmp_path / "run"
    command(
        "train",
        "recommendation.click",
        "--data",
        parquet,
        "--task.label",
        "clicked",
        "--run-dir",
        folder,
        "--train.epochs",
        "6",
        "--train.batch_size",
        "64",
        "--model.hidden",
        "16",
        "--optim.learning_rate",
        "1e-2",
        "--train.baseline",
        "False",
        "--task.bootstrap",
        "100",
        "--task.user",
        "city",
        "--task.item",
        "tags",
        "--task.decision.coverage",
        "0.9",
        "--task.decision.familiarity",
        "probability",
    )
    run = suite.evaluate(folder, "test")
    found = run.metrics
    assert 0.7 < found["test/empirical_coverage"] <= 1 <= found["test/set_size"] <= 2
    assert found["test/auc"] > 0.8 and found["test/auc_low"] < found["test/auc"] < found["test/auc_high"]
    assert 0.7 < found["test/calibration"] < 1.4 and found["test/calibration_error"] < 0.2
    assert found["test/unseen"] == 0
    for size in (1, 33):
        assert run.evaluate("test", size).metrics == pytest.approx(found, rel=1e-5)
    likely, unlikely = {"city": "Rome", "tags": "sale|red", "price": 0.5}, {"city": "Oslo", "tags": "new", "price": 9}
    strange = {"city": "Atlantis", "tags": "sale", "price": None}
    answers = run.predict([likely, unlikely, strange])
    assert answers[0]["probability"] > 0.8 and answers[1]["probability"] < 0.2
    assert [answer["unseen"] for answer in answers] == [0, 0, 1]
    assert answers[0]["set"] == ["yes"] and answers[1]["set"] == ["no"]
    assert all(0 < answer["familiarity"] <= 1 for answer in answers)
    assert list(answers[0]) == [output.name for output in run.codec.outputs]
    (tmp_path / "asked.json").write_text(json.dumps([likely, unlikely]))
    (tmp_path / "asked.csv").write_text("city,price,tags\nRome,0.5,sale|red\nOslo,9,new\n")
    for name in ("asked.json", "asked.csv"):
        made = [json.loads(line) for line in command("predict", folder, "--input", tmp_path / name).splitlines()]
        assert [answer["probability"] for answer in made] == [answer["probability"] for answer in answers[:2]]
        assert json.loads(made[0]["input"])["city"] == "Rome"
    (one,) = command("predict", folder, "--input", json.dumps(likely)).splitlines()
    assert json.loads(one)["probability"] == answers[0]["probability"]
    shows(folder, found)
    printed = command("data", "inspect", "recommendation.click", "--data", parquet, "--task.label", "clicked")
    assert "tags   list         items between '|', 3 different" in printed


def shows(folder, found):
    """The report says what the metrics say."""
    page = pages.read(suite.report(folder, "test"))
    areas = next(table for table in page.tables if table.rows[0][-1] == "area under the ROC curve")
    assert float(areas.column("area under the ROC curve")["clicked"]) == pytest.approx(found["test/auc"], abs=1e-4)
    assert f"Expected calibration error: {found['test/calibration_error']:.4f}." in page.words
    columns = suite.open(folder).experiment.task.source("test")
    records = len(columns)
    bins = next(table for table in page.tables if table.rows[0][0] == "predicted probability")
    assert sum(int(row[1]) for row in bins.rows[1:]) == records
    said = sum(int(row[1]) * float(row[2]) for row in bins.rows[1:])
    happened = sum(int(row[1]) * float(row[3]) for row in bins.rows[1:])
    assert said / happened == pytest.approx(found["test/calibration"], rel=0.01)
    assert page.table("Balance of clicked").column("test").keys() == {"0", "1"}
    lists = page.table("The worst of 4 lists")
    assert sum(int(n) for n in lists.column("records").values()) == records
    assert set(lists.column("AUC")) == set(CITIES)
    made = suite.open(folder).predict(columns[np.arange(records)])
    scores, city = np.array([answer["probability"] for answer in made]), columns[np.arange(records)]["city"]
    for name, area in lists.column("AUC").items():
        rows = np.array([each == name for each in city])
        clicked = np.asarray(columns[np.arange(records)]["clicked"])[rows]
        assert float(area) == pytest.approx(ranking.auc(scores[rows], clicked), abs=0.006)


def recipe(parquet, **changes):
    made = suite.load("recommendation.click", smoke=True)
    data = {"task.data": Table(path=str(parquet)), "task.label": "clicked", "train.batch_size": 32}
    return suite.replace(made, {**data, **{name.replace("__", "."): value for name, value in changes.items()}})


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, parquet):
    class Stop(Exception):
        pass

    def stop(dispatch):
        if dispatch.first == 5:
            raise Stop

    experiment = recipe(parquet, train__steps=8, checkpoint__every=2)
    with pytest.raises(Stop):
        suite.train(experiment, tmp_path / "stopped", on_dispatch=stop)
    again = suite.resume(tmp_path / "stopped")
    straight = suite.train(experiment, tmp_path / "straight")
    assert again.metrics["validation/loss"] == straight.metrics["validation/loss"]


def test_wrong_labels_and_columns_are_refused(refused, tmp_path, parquet):
    printed = refused(
        "train", "recommendation.click", "--data", parquet, "--task.label", "click", "--run-dir", tmp_path / "r"
    )
    assert printed.splitlines() == [
        'suite train: field task.label: column "click" is not in clicks.parquet.',
        "  found: city, tags, price, clicked",
        f"  try:   suite train recommendation.click --data {parquet} --run-dir {tmp_path / 'r'} --task.label clicked",
    ]
    printed = refused(
        "train", "recommendation.click", "--data", parquet, "--task.label", "city", "--run-dir", tmp_path / "r"
    )
    assert "column city: holds a label that is neither 1 nor 0" in printed


def test_records_without_a_label_are_dropped_and_counted(tmp_path):
    rows = ["city,clicked"] + [f"{CITIES[i % 4]},{'' if i % 10 == 0 else i % 2}" for i in range(100)]
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    task = ClickPrediction(data=Table(path=str(tmp_path), validation=0), label="clicked")
    source = task.source("train")
    assert len(source) == 90 and source.dropped["no label"] == 10


@pytest.mark.slow
def test_deepfm_beats_its_parts_on_movielens(tmp_path):
    """The same protocol for all four; each part with its own best setting of the validation split."""
    try:
        MovieLens().open("train")
    except InputError as error:
        pytest.skip(f"the data is missing: {error.problem}")
    found = {}
    for kind in ("deepfm", "dnn", "fm", "lr"):
        name = f"recommendation.movielens_{kind}"
        found[kind] = suite.train(suite.load(name), tmp_path / kind).evaluate("test").metrics["test/auc"]
    assert found["deepfm"] == max(found.values()), found


def test_an_event_that_is_no_value_of_the_label(tmp_path):
    rows = "".join(f"{place},{'ja' if place % 3 == 0 else 'nein'}\n" for place in range(60))
    (tmp_path / "a.csv").write_text("price,bought\n" + rows)
    task = ClickPrediction(data=Table(path=str(tmp_path / "a.csv")), label="bought", positive="yes")
    with pytest.raises(InputError) as error:
        task.remarks({"train": task.source("train")})
    assert error.value.problem == '"yes" is no value of column bought.' and error.value.fix == "--task.positive ja"


def test_labels_that_are_all_the_same(tmp_path):
    for split, clicked in {"train": "01", "dev": "00", "test": "11"}.items():
        rows = "".join(f"{place},{label}\n" for place, label in enumerate(clicked * 10))
        (tmp_path / f"{split}.csv").write_text("price,clicked\n" + rows)
    task = ClickPrediction(data=Table(path=str(tmp_path)), label="clicked")
    splits = {split: task.source(split) for split in ("train", "validation", "test")}
    assert task.remarks(splits) == [
        "column clicked: each of the 20 records of validation is no click: the area under the ROC curve is not defined "
        "there",
        "column clicked: each of the 20 records of test is a click: the area under the ROC curve is not defined there",
    ]
    with pytest.raises(InputError, match="each of the 20 records of train is no click: there is nothing to tell apart"):
        task.remarks({"train": splits["validation"]})


def test_a_history_is_trained_exported_and_answered(tmp_path):
    """Whether an item is clicked is a matter of what was seen before: no model of the other columns knows it."""
    rng = np.random.default_rng(0)
    items = np.array([f"i{place}" for place in range(12)])
    seen = [rng.choice(items, rng.integers(0, 5), replace=False).tolist() for _ in range(600)]
    item = items[rng.integers(0, 12, 600)]
    clicked = [
        int(any(int(one[1:]) % 3 == int(own[1:]) % 3 for one in before)) for own, before in zip(item, seen, strict=True)
    ]
    pq.write_table(pa.table({"item": item.tolist(), "seen": seen, "clicked": clicked}), tmp_path / "seen.parquet")
    changes = {
        "task.fields.histories": (("seen", "item"),),
        "task.fields.history_length": 3,
        "model.history_pooling": "attention",
        "model.hidden": (16,),
        "model.dropout": 0.0,
        "train.steps": 150,
        "train.log_every": 50,
        "train.batch_size": 64,
        "train.baseline": False,
        "optim.learning_rate": 2e-2,
    }
    run = suite.train(suite.replace(recipe(tmp_path / "seen.parquet"), changes), tmp_path / "run")
    assert run.experiment.model.histories == ((0, 0),)
    assert run.evaluate("test").metrics["test/auc"] > 0.75
    records = [{"item": "i1", "seen": ["i4", "i7", "i10", "i1"]}, {"item": "i1", "seen": []}, {"item": "i1"}]
    answers = run.predict(records)
    assert [answer["cut"] for answer in answers] == [1, 0, 0] and answers[1] == answers[2]
    assert answers[0]["probability"] > answers[1]["probability"]
    bundle = suite.export(run.folder, tmp_path / "bundle", platforms=("cpu",))
    for ours, theirs in zip(answers, bundle.predict(records), strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)
