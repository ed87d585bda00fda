"""suite report: the page against its sources of truth, whatever is missing, and what is refused."""

import json
import re
import shutil

import numpy as np
import pytest

import suite
from suite.cli.fields import apply_flags
from suite.data.sources.datasets import Table
from suite.experiment.goal import Goal
from suite.experiment.sections import replace
from suite.experiment.serialization import to_json
from suite.reporting import configuration, training
from suite.reporting.evidence import Evidence
from suite.reporting.sample_predictions import Taken
from tests import pages, toy

OWN = ("tests",)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    experiment = replace(suite.load("vision.digits_dnn", smoke=True), {"train.steps": 60, "train.eval_every": 20})
    return suite.train(experiment, tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def page(digits):
    return pages.read(suite.report(digits.folder, measure=True))


def percent(cell):
    return float(cell.removesuffix(" %")) / 100


def test_it_lies_in_the_run_folder_and_has_all_chapters(digits, page, command, tmp_path):
    assert (digits.folder / "report.html").is_file()
    chapters = [title for tag, title in page.headings if tag == "h2"]
    assert chapters == [
        "Results",
        "Predictions and errors",
        "Training",
        "Data",
        "Speed",
        "Configuration",
        "Environment",
        "Glossary",
    ]
    assert page.titles[0] == "vision.digits_dnn"
    elsewhere = tmp_path / "elsewhere.html"
    printed = command("report", digits.folder, "--split", "validation", "--to", elsewhere)
    assert printed == f"{elsewhere}\n"
    other = pages.read(elsewhere)
    assert "evaluated on validation" in other.words.replace("evaluated onvalidation", "evaluated on validation")
    assert "Accuracy on test is" in other.words  # the goal's own split, all the same


def test_the_verdict_is_that_of_the_scores(digits, page):
    found = digits.evaluate("test").metrics["test/accuracy"]
    interval = digits.scores("test").interval("accuracy")
    records = len(digits.experiment.task.source("test"))
    said = re.search(
        r"Goal (met|missed)\. Accuracy on test is ([\d.]+) % \(95 % interval ([\d.]+) to ([\d.]+); "
        r"n = (\d+)\); the goal is at least 96 %\.",
        page.words,
    )
    assert said[1] == ("met" if found >= 0.96 else "missed") and int(said[5]) == records
    assert [float(said[i]) / 100 for i in (2, 3, 4)] == pytest.approx([found, interval.low, interval.high], abs=6e-4)
    values = page.table("test, .* records").column("value")
    assert percent(values["accuracy"]) == pytest.approx(found, abs=6e-4)
    assert ("The goal lies within the interval" in page.words) == (interval.low < 0.96 < interval.high)


def test_the_confusion_matrix_is_that_of_the_answers(digits, page):
    counts = np.array(page.matrix())
    source = digits.experiment.task.source("test")
    columns = source[np.arange(len(source))]
    answers = [int(answer["label"]) for answer in digits.predict(list(columns["image"]))]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (columns["label"], answers), 1)
    assert (counts == expected).all()
    assert counts.trace() / counts.sum() == pytest.approx(digits.evaluate("test").metrics["test/accuracy"])
    recall = page.table("Number of records of each class").column("recall")
    assert percent(recall["3"]) == pytest.approx(expected[3, 3] / expected[3].sum(), abs=6e-4)
    wrong = int(counts.sum() - counts.trace())
    assert sum(alt.startswith("image: ") for alt in page.alts) == min(wrong, 12)
    mistakes = page.table("most frequent errors").rows[1:]
    assert all(counts[int(row[0]), int(row[1])] == int(row[2]) for row in mistakes)


def test_curves_are_those_of_the_log(digits, page):
    best = max(
        zip(digits.history["validation/accuracy"], digits.history["step"], strict=True),
        key=lambda pair: (pair[0] is not None, pair),
    )
    assert f"The broken line is the checkpoint that is served, of step {best[1]}." in page.words
    tables = [table for table in page.tables if table.rows[0] == ["step", "validation", "train"]]
    pairs = zip(digits.history["step"], digits.history["train/loss"], strict=True)
    losses = {step: loss for step, loss in pairs if loss is not None}
    shown = {int(row[0]): float(row[2]) for row in tables[0].rows[1:] if row[2]}
    assert len(shown) > 5 and shown == pytest.approx({step: losses[step] for step in shown}, rel=1e-3)
    assert any(alt.startswith("learning rate over steps") for alt in page.alts)
    assert percent(page.table("test, .* records").column("validation")["accuracy"]) == pytest.approx(best[0], abs=6e-4)


def test_the_data_card_counts_records(digits, page):
    counts = page.table("No record was left out").column("records")
    for split in ("train", "validation", "test"):
        assert int(counts[split].replace(",", "")) == len(digits.experiment.task.source(split))
    balance = page.table("Balance of label").column("train")
    assert sum(int(cell.split()[0].replace(",", "")) for cell in balance.values()) == int(
        counts["train"].replace(",", "")
    )
    assert "scikit-learn" in page.words and "not stated by the data" in page.words


def test_what_was_changed_of_the_recipe_and_how_to_do_it_again(digits, page, tmp_path):
    table = page.table("not those of the recipe vision.digits_dnn")
    assert table.column("this run")["train.steps"] == "60" and table.column("recipe")["train.steps"] == "0"
    assert "model.outputs" not in table.column("recipe")
    (line,) = re.findall(r"suite train vision\.digits_dnn (.*)", page.text)
    again = apply_flags(suite.load("vision.digits_dnn"), line.split(), "suite train")
    assert again == suite.runs.verbs.stored(digits.folder)
    environment = next(table for table in page.tables if table.rows[0] == ["", "in training"])
    assert environment.column("in training")["jax"] == suite.runs.results.versions()["jax"]
    assert environment.column("in training")["devices"] == suite.runs.results.devices()


def test_speed_is_what_was_measured(digits, page):
    rows = next(table for table in page.tables if table.rows[0] == ["", "", "how"]).rows[1:]
    found = {row[0]: (float(row[1].replace(",", "")), row[2]) for row in rows}
    seconds = json.loads((digits.folder / "result.json").read_text())["trained"]["seconds"]
    assert found["training, seconds"][0] == pytest.approx(seconds, abs=0.06)
    assert found["answer to 1 record, ms"][0] > 0 and "median of" in found["answer to 64 records, ms"][1]


def test_the_step_that_is_served_is_the_one_that_training_named(tmp_path):
    """Of a run that prunes, no evaluation before the last weights have gone is the best, however good."""
    history = {"step": [10, 20, 30], "validation/accuracy": [0.9, 0.7, 0.8]}
    found = Evidence(tmp_path, toy.experiment(best="accuracy"), history=history)
    assert training.best_step(found) == 10
    found.result = {"trained": {"metrics": {"train/best_step": 30, "train/steps": 30}}}
    assert training.best_step(found) == 30
    assert training.at_best(found) == {"validation/accuracy": 0.8}


def test_of_equal_evaluations_the_one_that_is_served(tmp_path):
    history = {"step": [10, 20, 30], "validation/accuracy": [0.9, 0.9, 0.9], "validation/loss": [0.5, 0.4, 0.4]}
    assert training.best_step(Evidence(tmp_path, toy.experiment(best="accuracy"), history=history)) == 20


def test_the_course_of_a_training_is_told(tmp_path):
    """Overfitting, above the curves."""
    history = {
        "step": [10, 20, 30, 40],
        "train/loss": [1.0, 0.5, 0.3, 0.1],
        "validation/loss": [1.0, 0.5, 0.7, 0.9],
        "validation/accuracy": [0.5, 0.8, 0.7, 0.7],
    }
    told, _ = training.curves(Evidence(tmp_path, toy.experiment(best="accuracy"), history=history))
    assert told.text.startswith("Overfitting since step 20: the validation loss rose from 0.5 to 0.9 while")


EVIL = "<script>alert(1)</script> & <b>bold</b>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run on records that try to be more than text, its folder and its table."""
    folder = tmp_path_factory.mktemp("hostile")
    table = folder / "own.csv"
    lines = ["review,verdict", *(f'"{EVIL} {word} {i}",<i>{word}</i>' for i in range(150) for word in ("good", "bad"))]
    table.write_text("\n".join(lines) + "\n")
    experiment = replace(
        suite.load("text.encoder", smoke=True),
        {
            "task.data": Table(path=str(table)),
            "task.text": "review",
            "task.label": "verdict",
            "train.steps": 3,
            "model.layers": 1,
            "pipeline.buckets": (32,),
        },
    )
    return suite.train(experiment, folder / "run").folder, table


def test_texts_of_records_are_text(hostile):
    page = pages.read(suite.report(hostile[0]))
    assert EVIL in page.words and "<i>good</i>" in page.words
    assert "No goal was set. Accuracy on test is" in page.words


def test_data_that_has_gone_away(hostile, tmp_path):
    folder, table = hostile
    aside = table.rename(tmp_path / "aside.csv")
    try:
        page = pages.read(suite.report(folder, to=tmp_path / "r.html"))
    finally:
        aside.rename(table)
    assert "No goal was set. Nothing could be evaluated." in page.words
    assert f"Missing: evaluation on test. {table}: " in page.words
    assert "train: not there." in page.words and "Training" in page.titles
    assert page.table("not those of the recipe").column("this run")["train.steps"] == "3"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run of a task that shows nothing, with a goal that it misses."""
    experiment = replace(toy.experiment(steps=10), {"goal": Goal(at_least=1.0, on="validation")})
    return suite.train(experiment, tmp_path_factory.mktemp("plain") / "run").folder


def test_a_task_without_exhibits(plain):
    page = pages.read(suite.report(plain, allow=OWN))
    assert "Goal missed. Accuracy on validation is" in page.words
    assert "No recipe named toy.parity comes with the suite" in page.words
    assert "Sample predictions" in page.titles
    assert "suite.runs.verbs.stored" in page.text  # no recipe, so no flags


def copied(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "run")


def test_a_run_that_stopped_early(plain, tmp_path):
    folder = copied(plain, tmp_path)
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints")
    page = pages.read(suite.report(folder, allow=OWN))
    assert (
        "Goal not evaluated. The goal is accuracy on validation of at least 100 %, and this run was not evaluated "
        "there." in page.words
    )
    assert f"It goes on with: suite train --resume {folder}" in page.words
    assert f"Missing: evaluation. run {folder}: has no complete checkpoint." in page.words
    assert "Nothing was evaluated." in page.words


def test_a_run_that_has_hardly_begun(plain, tmp_path):
    folder = copied(plain, tmp_path)
    for name in ("metrics.jsonl", "result.json", "versions.json"):
        (folder / name).unlink()
    page = pages.read(suite.report(folder, allow=OWN))
    assert "Missing: curves. metrics.jsonl holds no course of training." in page.words
    assert "Nothing was logged." in page.words and "not noted" in page.words


def test_a_run_of_an_older_suite(plain, tmp_path):
    """Its result.json names no devices, and holds what the last verb found alone."""
    folder = copied(plain, tmp_path)
    result = json.loads((folder / "result.json").read_text())
    del result["devices"], result["trained"]
    (folder / "result.json").write_text(json.dumps(result))
    page = pages.read(suite.report(folder, allow=OWN))
    assert "Missing" not in page.words and "training, seconds" in page.words


def test_a_run_that_was_made_without_training(plain, tmp_path):
    folder = copied(plain, tmp_path)
    (folder / "metrics.jsonl").unlink()
    (folder / "result.json").unlink()
    made = {
        **COMPRESSED,
        "of": str(plain),
        "max_drop": None,
        "latency_ms": {"1": {"before": 2.0, "after": 1.0, "ratio": 0.5, "float32": 4.0}},
    }
    (folder / "compression.json").write_text(json.dumps(made))
    page = pages.read(suite.report(folder, allow=OWN))
    assert "Missing" not in page.words and "weights 25.0 % of their size." in page.words
    change = page.table("int8, made from").column("change")["latency of 1, ms"]
    assert change == "× 0.50; × 0.25 of 4.00 in float32"


def test_a_split_without_labels_is_left_for_the_next(hostile, tmp_path):
    """The test split's label is no class; so it is evaluated on validation, and the report says why."""
    rows = [f"text {i} is {word},<i>{word}</i>" for i in range(40) for word in ("good", "bad")]
    for name, lines in {"train": rows, "dev": rows[:40], "test": ["unknown text,?"] * 9}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["review,verdict", *lines]) + "\n")
    folder = shutil.copytree(hostile[0], tmp_path / "run")
    stored = folder / "experiment.json"
    stored.write_text(stored.read_text().replace(str(hostile[1]), str(tmp_path)))
    page = pages.read(suite.report(folder))
    assert "No goal was set. Accuracy on validation is" in page.words
    assert "Missing: evaluation on test. column of labels: '?' is not a class of the training split" in page.words


COMPRESSED = {
    "method": "int8",
    "split": "test",
    "metric": "accuracy",
    "before": {"value": 0.95, "low": 0.93, "high": 0.97},
    "after": {"value": 0.947, "low": 0.93, "high": 0.96},
    "drop": {"value": 0.003, "low": -0.002, "high": 0.008},
    "max_drop": 0.005,
    "met": True,
    "size": {"before_bytes": 4 * 2**20, "after_bytes": 2**20, "ratio": 0.25},
    "latency_ms": {"1": {"before": 2.0, "after": 1.0, "ratio": 0.5}},
    "memory_bytes": {"before": 8 * 2**20, "after": 2 * 2**20},
    "parameters": {"before": 1000, "after": 1000, "zeros": 500},
}


def test_what_was_made_from_it_is_told_of(plain, tmp_path, refused):
    small = tmp_path / "small"
    small.mkdir()
    (small / "compression.json").write_text(json.dumps({**COMPRESSED, "of": str(plain)}))
    page = pages.read(suite.report(plain, beside=[small], to=tmp_path / "r.html", allow=OWN))
    assert (
        "int8: accuracy on test from 95.0 % to 94.7 %, weights 25.0 % of their size. Goal met: a drop of at most "
        "0.50 % was allowed." in page.words
    )
    change = page.table("int8, made from").column("change")
    assert change == {
        "accuracy on test": "drop +0.3 points (-0.2 to +0.8)",
        "weights, MiB": "× 0.25",
        "latency of 1, ms": "× 0.50",
        "memory, MiB": "× 0.25",
        "parameters": "500 are 0",
    }
    (small / "compression.json").write_text(json.dumps({**COMPRESSED, "of": "elsewhere"}))
    printed = refused("report", plain, "--with", small, "--allow", "tests")
    assert printed == f'suite report: --with "{small}": was not made from {plain}.\n  found: elsewhere\n'
    printed = refused("report", plain, f"--with={tmp_path}", "--allow", "tests")
    assert printed.startswith(f'suite report: --with "{tmp_path}": has no compression.json')


def test_the_search_that_it_came_out_of_is_told_of(plain, tmp_path):
    """The folder of a search stands for the run it chose, and that run says where it is from."""
    chosen = shutil.copytree(plain, tmp_path / "trials" / "0001")
    trials = [
        {
            "number": i,
            "state": state,
            "value": value,
            "values": {"optim.learning_rate": 0.01 * (i + 1)},
            "steps": 10,
            "seconds": 1.5,
        }
        for i, (state, value) in enumerate([("complete", 0.6), ("complete", 0.8), ("pruned", None)])
    ]
    verdict = {
        "goal": "validation/accuracy >= 0.9",
        "met": False,
        "margin": -0.1,
        "stopped_by": "trials",
        "chosen": {"trial": 1, "folder": "trials/0001", "values": {"optim.learning_rate": 0.02}},
        "validation": {},
        "test": None,
        "trials": trials,
        "why_no_test": "its labels are withheld",
    }
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    for folder in (tmp_path, chosen):
        page = pages.read(suite.report(folder, allow=OWN))
        assert "The test split was not looked at: its labels are withheld" in page.words
        assert (
            "A search of 3 trials for the goal validation/accuracy >= 0.9 used up its trials and did not meet it; "
            "this is its trial 1." in page.words
        )
        rates = page.table("Goal: validation/accuracy").column("optim.learning_rate")
        assert rates == {"0": "0.01", "1 (chosen)": "0.02", "2": "0.03"}
    assert (tmp_path / "report.html").exists() and (chosen / "report.html").exists()


def test_what_is_no_run_is_refused(refused, tmp_path, plain):
    printed = refused("report", tmp_path)
    assert printed.splitlines()[0] == f'suite report: run folder "{tmp_path}": is not one: it has no experiment.json.'
    assert refused("report").startswith("suite report: RUN: is missing.")
    assert "names the class" in refused("report", plain)
    assert refused("report", plain, "--split", "tset") == (
        'suite report: --split "tset": is no split.\n  found: train, validation, test\n'
        f"  try:   suite report {plain} --split test\n"
    )
    assert refused("report", plain, "--with", "") == (
        f"suite report: flag --with: needs a value.\n  try:   suite report {plain} --with runs/reviews-int8\n"
    )


def test_a_data_card_of_many_records_looks_at_some_of_them(plain, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("suite.reporting.data_card.MOST", 100)
    page = pages.read(suite.report(digits.folder, to=tmp_path / "r.html"))
    assert "Of train, validation, test 100 evenly spaced records were looked at" in page.words
    counts = page.table("No record was left out").column("records")
    assert int(counts["train"].replace(",", "")) == len(digits.experiment.task.source("train"))
    balance = page.table("Balance of label").column("train")
    assert sum(int(cell.split()[0]) for cell in balance.values()) == 100


def test_a_flag_whose_value_begins_with_a_minus():
    """argparse takes it for a flag where it stands by itself."""
    recipe = stored_fields(toy.experiment())
    changes = {"train.best": "-loss", "train.steps": 7, "optim.frozen": ("a", "b")}
    own = stored_fields(replace(toy.experiment(), changes))
    flags = configuration._flags(recipe, own)
    made = apply_flags(toy.experiment(), flags, "suite train")
    assert (made.train.best, made.train.steps, made.optim.frozen) == ("-loss", 7, ("a", "b"))
    assert configuration._flags(recipe, {**own, "optim.frozen": ["-a"]}) is None


def stored_fields(experiment):
    return configuration.flat(to_json(experiment))


def test_answers_that_are_recordings_have_a_real_time_factor(tmp_path):
    (table, *_) = training.speed(
        Evidence(tmp_path, toy.experiment(), history={"step": []}), {1: Taken([10.0, 20.0, 30.0], 2.0)}
    )
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["answer to 1 record, ms"] == "20.00" and rows["real-time factor, 1 record"] == "0.0100"
