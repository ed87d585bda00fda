"""Baselines of runs: the same records and metrics as the model's, kept in the run folder, told after training."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import suite
from suite import distribution
from suite.data.sources.datasets import Table
from suite.errors import InputError
from suite.evaluation.baselines import TooSlow, measure
from suite.experiment.sections import replace
from suite.reporting import verdicts
from suite.reporting.evidence import Evidence
from suite.runs import baselines
from tests.untrained import clicks, continuations, keywords, untrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that knows nothing, of texts with a word that says their class."""
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "grey", "white"])
    rows = [
        f"{' '.join(rng.choice(words, 4))} {('good', 'bad')[place % 3 == 0]},{place % 3 == 0}" for place in range(300)
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = replace(
        suite.load("text.encoder", smoke=True),
        {"task.data": Table(path=str(folder / "rows.csv")), "task.tokenizer.vocab_size": 40, "pipeline.buckets": (32,)},
    )
    return untrained(recipe, folder / "run")


@pytest.fixture(scope="module")
def compared(run):
    return baselines.baseline(run)


def test_the_constant_is_the_most_frequent_class_of_training(run, compared):
    task = run.experiment.task
    train, validation = task.source("train"), task.source("validation")
    classes = np.bincount(task.encode(train[np.arange(len(train))])["label"])
    right = (task.encode(validation[np.arange(len(validation))])["label"] == classes.argmax()).mean()
    constant, strongest = compared.baselines
    assert constant.name == "most frequent class" and constant.metrics["accuracy"].value == pytest.approx(right)
    assert strongest.name == "tf-idf + logistic regression" and strongest.metrics["accuracy"].value == 1
    assert strongest.fitted == strongest.of == len(train) and compared.records == len(validation)


def test_the_difference_is_that_of_the_same_records(run, compared):
    task, scores = run.experiment.task, run.scores("validation")
    measured = measure(task, task.source("train"), task.source("validation"))[-1]
    assert measured.scores.records.tolist() == np.sort(scores.records).tolist()
    apart = scores.minus(measured.scores, "accuracy")
    assert compared.strongest.differences["accuracy"] == apart  # and so it is the same each time
    own = scores.interval("accuracy").value
    assert apart.value == pytest.approx(own - compared.strongest.metrics["accuracy"].value)
    assert compared.outcome == "worse" and "worse by" in baselines.against(compared)


def test_it_is_kept_until_the_run_goes_on(run, compared):
    assert str(baselines.stored(run.folder, "validation")) == str(compared)  # nan is not equal to itself
    assert baselines.stored(run.folder, "test") is None
    json.loads((run.folder / baselines.FILE).read_text(), parse_constant=pytest.fail)  # no NaN, which is no JSON
    (run.folder / "checkpoints" / "7").mkdir(parents=True)
    assert baselines.stored(run.folder, "validation") is None
    (run.folder / "checkpoints" / "7").rmdir()


def test_the_report_begins_with_it(run, compared):
    evidence = Evidence(run.folder, run.experiment, baseline=compared)
    verdict = verdicts.verdicts(evidence)[1]
    assert (verdict.word, verdict.good) == ("Worse than the baseline.", False)
    assert "Tf-idf + logistic regression: accuracy 100.0 %" in verdict.text and "significant" in verdict.text
    table = verdicts.baseline(compared)[0]
    assert table.head == ("metric", "A", "B", "this model", "this less B")
    (row,) = [row for row in table.rows if row[0] == "accuracy"]
    assert row[-1].startswith("-") and "points" in row[-1]
    without = dataclasses.replace(compared, model={})  # of an experiment, which has no model yet
    assert len(verdicts.verdicts(dataclasses.replace(evidence, baseline=without))) == 1


@pytest.mark.parametrize("make", [clicks, keywords])
def test_other_tasks_are_measured_by_their_own_metrics(make, tmp_path):
    run = untrained(make(tmp_path), tmp_path / "run")
    compared = baselines.baseline(run)
    assert set(compared.strongest.metrics) <= set(compared.model) and compared.metric in compared.strongest.metrics
    assert "this model" in baselines.told(compared)[-1]


def test_a_number_is_measured_on_its_own_scale(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{size:.3f},{np.exp(6 * size):.3f}" for size in rng.random(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["size,price", *rows]) + "\n")
    recipe = replace(
        suite.load("table.predict", smoke=True),
        {"task.data": Table(path=str(tmp_path / "rows.csv")), "task.target": "price"},
    )
    mean, trees = suite.baseline(recipe).baselines
    assert mean.name == "mean" and -0.2 < mean.metrics["r2"].value <= 0 and trees.metrics["r2"].value > 0.9


def test_a_task_without_one_says_so(tmp_path):
    with pytest.raises(InputError, match="there is no classical baseline for this task, LanguageModelling"):
        baselines.baseline(untrained(continuations(tmp_path), tmp_path / "run"))


def test_a_limit_ends_the_reading(run):
    task = run.experiment.task
    with pytest.raises(TooSlow):
        measure(task, task.source("train"), task.source("validation"), limit=1e-9)


def asking(run):
    """The run, whose recipe asks for a baseline."""
    return dataclasses.replace(run, experiment=replace(run.experiment, {"train.baseline": True}))


def test_training_tells_it_and_how_to_do_better(run, compared, capsys):
    baselines.after_training(run)
    assert not capsys.readouterr().err  # the recipe doesn't ask
    baselines.after_training(asking(run))
    said = capsys.readouterr().err
    assert said.splitlines() == baselines.told(compared, run)
    assert f"same {compared.records} records of validation" in said
    (path,) = {run.experiment.task.data.path}
    assert said.splitlines()[-1] == f"  try:   suite train text.finetune --data {path}"


def test_without_scikit_learn_training_tells_what_installs_it(run, capsys, monkeypatch):
    (run.folder / baselines.FILE).unlink(missing_ok=True)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    baselines.after_training(asking(run))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "baseline: not measured: package scikit-learn is needed for baselines, and not installed; "
        + distribution.install("baseline")
    )


def test_recipes_for_own_data_ask_for_it_and_smoke_does_not():
    named = ("text.classify", "text.finetune", "vision.classify", "speech.classify", "recommendation.click")
    for name in (*named, "table.predict", "vision.regress", "vision.label"):
        assert suite.load(name).train.baseline and not suite.load(name, smoke=True).train.baseline
    assert not suite.load("text.sst2_encoder").train.baseline
