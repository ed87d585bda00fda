"""suite compare: what is said of constructed runs, and which are refused."""

import json
import re
import shutil

import numpy as np
import pytest

import suite
from suite.data.sources.datasets import ArrayFile, Digits
from suite.experiment.sections import replace
from suite.experiment.serialization import to_json
from suite.reporting.comparisons import compare
from suite.reporting.side_by_side import render, save
from tests import pages, toy


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, the same once more, one that has hardly learnt, and one with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    digits = replace(suite.load("vision.digits_dnn", smoke=True), {"train.steps": 60, "optim.warmup_steps": 0})
    changes = {"good": {}, "poor": {"train.steps": 5}, "seed": {"train.seed": 1}}
    made = {name: suite.train(replace(digits, fields), folder / name).folder for name, fields in changes.items()}
    return {**made, "again": shutil.copytree(made["good"], folder / "again")}


def edited(folder, to, old, new):
    """A copy of a run whose configuration says something else."""
    shutil.copytree(folder, to)
    stored = to / "experiment.json"
    assert old in stored.read_text()
    stored.write_text(stored.read_text().replace(old, new))
    return to


def test_a_run_differs_from_itself_by_nothing(runs):
    made = compare([runs["good"], runs["again"]], "test")
    for metric in made.metrics:
        (judged,) = made.differences[metric].values()
        assert (judged.interval.value, judged.interval.low, judged.interval.high, judged.p) == (0, 0, 0, 1)
        assert not judged.significant
    assert made.settings == {}
    assert "their configurations are the same" in render(made)


def test_a_run_that_has_learnt_nothing_is_worse(runs):
    made = compare([runs["good"], runs["poor"]], "test")
    assert made.metrics[0] == "accuracy"  # what chose the checkpoint
    for metric, sign in (("accuracy", -1), ("loss", 1)):
        (judged,) = made.differences[metric].values()
        assert judged.significant and sign * judged.interval.low > 0 and sign * judged.interval.high > 0
    metrics = {
        name: suite.evaluate(folder, "test").metrics["test/accuracy"]
        for name, folder in runs.items()
        if name in ("good", "poor")
    }
    assert made.runs[0].values["accuracy"].value == pytest.approx(metrics["good"])
    assert made.differences["accuracy"][1].interval.value == pytest.approx(metrics["poor"] - metrics["good"])
    assert made.settings == {"train.steps": ("60", "5")}
    printed = render(made)
    assert re.search(r"2 less 1: -[\d.]+ points \(-[\d.]+ to -[\d.]+\), p 0\.00\d: significant, worse", printed)
    assert "train.steps  60 | 5" in printed and "Holm" not in printed


def test_of_several_runs_p_values_are_corrected(runs):
    made = compare([runs["poor"], runs["good"], runs["seed"]], "test", metric="loss", against="best")
    alone = {
        place: compare([made.runs[made.against].run.folder, made.runs[place].run.folder], "test")
        for place in made.differences["loss"]
    }
    assert made.metrics[0] == "loss" and made.against != 0
    for place, judged in made.differences["loss"].items():
        single = alone[place].differences["loss"][1]
        assert judged.interval == single.interval and judged.p >= single.p
    assert "p is corrected for the 2 comparisons of each metric (Holm)" in render(made)


def test_a_comparison_as_a_page(runs, tmp_path):
    made = compare([runs["good"], runs["poor"]], "test")
    save(made, tmp_path / "compared.html")
    page = pages.read(tmp_path / "compared.html")
    assert page.titles[:3] == ["2 runs of vision.digits_dnn", "Results", "accuracy"]
    assert "Significant: run 2 is worse. Accuracy: run 2 less run 1 is -" in page.words
    values = page.tables[0].column("accuracy")
    assert values[f"1 {runs['good']}"].startswith(f"{100 * made.runs[0].values['accuracy'].value:.1f}"[:3])
    assert page.tables[0].column("parameters")[f"1 {runs['good']}"] == f"{64 * 256 + 256 + 256 * 10 + 10:,}"
    assert len(page.alts) >= 6


def test_the_command(command, runs, tmp_path):
    folders = runs["good"], runs["poor"]
    printed = command("compare", *folders, "--split", "validation", "--to", tmp_path / "page.html").splitlines()
    assert printed[0].startswith("validation, ") and printed[-1] == str(tmp_path / "page.html")
    assert any(line.startswith("  2 less 1: ") and line.endswith("significant, worse") for line in printed)
    result = json.loads((folders[0] / "result.json").read_text())
    assert f"{result['trained']['seconds']:,.1f}" in printed[3]


def test_what_cannot_be_compared_is_refused(refused, runs, tmp_path):
    printed = refused("compare", runs["good"])
    assert printed.splitlines() == [
        "suite compare: runs: are compared, and one is none.",
        "  found: 1 given",
        "  try:   suite compare RUN RUN",
    ]
    printed = refused("compare", runs["good"], runs["poor"], "--metric", "f1")
    assert printed.startswith(
        'suite compare: --metric "f1": is no metric of all these runs.\n  found: accuracy, loss, '
    )
    printed = refused("compare", runs["good"], runs["poor"], "--against", "last")
    assert printed == (
        f'suite compare: flag --against: "last" is unknown.\n  found: first, best\n'
        f"  try:   suite compare {runs['good']} {runs['poor']} --against best\n"
    )
    other = edited(runs["good"], tmp_path / "other", '"seed": 0\n  },', '"seed": 1\n  },')
    sizes = [len(suite.open(folder).experiment.task.source("test")) for folder in (runs["good"], other)]
    assert refused("compare", runs["good"], other).splitlines() == [
        f"suite compare: runs: {runs['good']} and {other} read other records as test, so their difference says little.",
        f"  found: {sizes[0]:,} and {sizes[1]:,} records",
        "  try:   runs with the same data and split",
    ]
    none = suite.train(toy.experiment(steps=4), tmp_path / "toy").folder
    assert "read other records as test" in refused("compare", runs["good"], none, "--allow", "tests")


def test_the_same_records_by_another_name_are_compared(runs, tmp_path):
    """What counts is what they hold: the digits, written as an array file, are the digits."""
    arrays = {}
    for split in ("train", "validation", "test"):
        source = Digits().open(split)
        columns = source[np.arange(len(source))]
        arrays |= {f"{split}_image": columns["image"], f"{split}_label": columns["label"]}
    np.savez(tmp_path / "digits.npz", **arrays)
    folder = shutil.copytree(runs["good"], tmp_path / "copy")
    written = json.loads((folder / "experiment.json").read_text())
    written["task"]["data"] = to_json(ArrayFile(path=str(tmp_path / "digits.npz")))
    (folder / "experiment.json").write_text(json.dumps(written))
    made = compare([runs["good"], folder], "test")
    assert made.differences["accuracy"][1].p == 1 and "task.data.path" in made.settings
