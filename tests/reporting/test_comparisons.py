"""suite compare: what is said of constructed runs, and which are refused."""

import json
import re

import pytest

import suite
from suite.config import replace
from suite.data.sources import Table
from suite.errors import InputError
from suite.reporting.comparisons import compare
from suite.reporting.side_by_side import render, save
from tests import pages, toy

OWN = ("tests",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run twice, one that has hardly learnt, and one with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, changes in {"good": {}, "again": {}, "poor": {"steps": 1}, "seed": {"seed": 1}}.items():
        experiment = toy.experiment(**{"steps": 120, **changes})
        made[name] = suite.train(replace(experiment, {"optim.learning_rate": 0.05}), folder / name).folder
    return made


def test_a_run_differs_from_itself_by_nothing(runs):
    made = compare([runs["good"], runs["again"]], "test", allow=OWN)
    for metric in made.metrics:
        (judged,) = made.differences[metric].values()
        assert (judged.interval.value, judged.interval.low, judged.interval.high, judged.p) == (0, 0, 0, 1)
        assert not judged.significant
    assert made.settings == {}
    assert "their configurations are the same" in render(made)


def test_a_run_that_has_learnt_nothing_is_worse(runs):
    made = compare([runs["good"], runs["poor"]], "test", allow=OWN)
    assert made.metrics[0] == "accuracy"  # what chose the checkpoint
    for metric, sign in (("accuracy", -1), ("loss", 1)):
        (judged,) = made.differences[metric].values()
        assert judged.significant and sign * judged.interval.low > 0 and judged.interval.excludes_zero
    metrics = {name: suite.evaluate(folder, "test", allow=OWN).metrics["test/accuracy"]
               for name, folder in runs.items() if name in ("good", "poor")}  # fmt: skip
    assert made.runs[0].values["accuracy"].value == pytest.approx(metrics["good"])
    assert made.differences["accuracy"][1].interval.value == pytest.approx(metrics["poor"] - metrics["good"])
    assert made.settings == {"train.steps": ("120", "1")}
    printed = render(made)
    assert re.search(r"2 less 1: -[\d.]+ points \(-[\d.]+ to -[\d.]+\), p 0\.00\d: significant, worse", printed)
    assert "train.steps  120 | 1" in printed and "Holm" not in printed


def test_of_several_runs_p_values_are_corrected(runs):
    made = compare([runs["poor"], runs["good"], runs["seed"]], "test", metric="loss", against="best", allow=OWN)
    alone = {place: compare([made.runs[made.against].run.folder, made.runs[place].run.folder], "test", allow=OWN)
             for place in made.differences["loss"]}  # fmt: skip
    assert made.metrics[0] == "loss" and made.against != 0
    for place, judged in made.differences["loss"].items():
        single = alone[place].differences["loss"][1]
        assert judged.interval == single.interval and judged.p >= single.p
    assert "p is corrected for the 2 comparisons of each metric (Holm)" in render(made)


def test_a_comparison_as_a_page(runs, tmp_path):
    made = compare([runs["good"], runs["poor"]], "test", allow=OWN)
    save(made, tmp_path / "compared.html")
    page = pages.read(tmp_path / "compared.html")
    assert page.titles[:3] == ["2 runs of toy.parity", "Results", "accuracy"]
    assert "Significant: run 2 is worse. accuracy: run 2 less run 1 is -" in page.words
    values = page.tables[0].column("accuracy")
    assert values[f"1 {runs['good']}"].startswith(f"{100 * made.runs[0].values['accuracy'].value:.1f}"[:3])
    assert page.tables[0].column("parameters")[f"1 {runs['good']}"] == f"{4 * 16 + 16 + 16 * 2 + 2}"
    assert len(page.alts) >= 6


def test_the_command(command, runs, tmp_path):
    digits = suite.load("vision.digits_dnn", smoke=True)
    folders = [suite.train(replace(digits, {"train.steps": steps}), tmp_path / str(steps)).folder for steps in (20, 1)]
    printed = command("compare", *folders, "--split", "validation", "--to", tmp_path / "page.html").splitlines()
    assert printed[0].startswith("validation, ") and printed[-1] == str(tmp_path / "page.html")
    assert any(line.startswith("  2 less 1: ") and line.endswith("significant, worse") for line in printed)
    result = json.loads((folders[0] / "result.json").read_text())
    assert f"{result['trained']['seconds']:,.1f}" in printed[3]


def test_what_cannot_be_compared_is_refused(refused, runs, tmp_path):
    printed = refused("compare", runs["good"], "--allow", "tests")
    assert printed.splitlines() == ["suite compare: runs: are compared, and one is none.", "  found: 1 given",
                                    "  try:   suite compare RUN RUN ..."]  # fmt: skip
    with pytest.raises(InputError) as error:
        compare([runs["good"], runs["poor"]], "test", metric="f1", allow=OWN)
    assert str(error.value) == '--metric "f1": is no metric of all these runs.\n  found: accuracy, loss'
    printed = refused("compare", runs["good"], runs["poor"], "--against", "last")
    assert printed == 'suite compare: --against "last": is neither first nor best.\n  try:   --against best\n'
    digits = suite.load("vision.digits_dnn", smoke=True)
    folders = [suite.train(replace(digits, {"task.data.seed": seed, "train.steps": 1}), tmp_path / f"{seed}").folder
               for seed in (0, 1)]  # fmt: skip
    counts = [len(suite.open(folder).experiment.task.source("test")) for folder in folders]
    printed = refused("compare", *folders)
    assert printed.splitlines() == [
        f"suite compare: runs: {folders[0]} and {folders[1]} read other records as test, so their difference says "
        "little.", f"  found: {counts[0]:,} and {counts[1]:,} records", "  try:   runs with the same data and split",
    ]  # fmt: skip
    printed = refused("compare", folders[0], runs["good"], "--allow", "tests")
    assert "read other records as test" in printed


def test_the_same_records_by_another_name_are_compared(tmp_path):
    """Two files of the same rows: what counts is what they hold."""
    rows = "review,verdict\n" + "".join(f"text {i} is {'good' if i % 2 else 'bad'},{i % 2}\n" for i in range(300))
    folders = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(rows)
        experiment = replace(suite.load("text.classify", smoke=True), {
            "task.data": Table(path=str(tmp_path / f"{name}.csv")), "task.text": "review",
            "task.label": "verdict", "train.steps": 2, "pipeline.buckets": (32,)})  # fmt: skip
        folders.append(suite.train(experiment, tmp_path / name).folder)
    made = compare(folders, "test")
    assert set(made.settings) == {"task.data.path"}
