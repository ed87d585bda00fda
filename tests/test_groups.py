"""Metrics by group: for whom a model is worse, with intervals and corrected p-values."""

import dataclasses
import re

import numpy as np
import pytest

import suite
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Interval
from suite.runs import groups
from tests import predicting


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of a table whose target is noise where the region is south."""
    folder = tmp_path_factory.mktemp("groups")
    rng = np.random.default_rng(0)
    a, b, south = rng.normal(size=600), rng.normal(size=600), rng.random(600) < 0.4
    spam = np.where(south, rng.random(600) < 0.5, a + b > 0)
    region = np.where(south, "south", np.where(np.arange(600) < 6, "west", "north"))
    rows = [f"{x:.4f},{y:.4f},{'yes' if z else 'no'},{r}" for x, y, z, r in zip(a, b, spam, region, strict=True)]
    (folder / "t.csv").write_text("\n".join(["a,b,spam,region", *rows]) + "\n")
    recipe = predicting.experiment(folder / "t.csv", "spam", best="accuracy", patience=3)
    return suite.train(recipe, folder / "run")


def test_the_group_that_is_worse_off_is_found(run, capsys):
    found = groups.by_group(run, "region", "train")
    by_name = {group.name: group for group in found.groups}
    assert [group.records for group in found.groups] == sorted((g.records for g in found.groups), reverse=True)
    assert by_name["south"].apart["accuracy"].high < 0 and by_name["south"].apart["accuracy"].p < 0.05
    assert by_name["west"].records < groups.FEWEST and not by_name["west"].apart
    split = run.experiment.task.source("train")
    inside = np.array(split.column("region", np.arange(len(split)))) == "south"
    answers = run.predict({name: np.array(split.column(name, np.arange(len(split))))[inside] for name in ("a", "b")})
    right = np.array(split.column("spam", np.arange(len(split))))[inside]
    share = np.mean([answer["label"] == label for answer, label in zip(answers, right, strict=True)])
    assert by_name["south"].metrics["accuracy"].value == pytest.approx(share)
    text = "\n".join(found.lines)
    assert "* worse for south" in text and "from south to north" in text and "too few records to compare" in text
    gaps = [line for line in found.lines if line.startswith("largest gap of")]
    assert len(gaps) > 2 and "accuracy" in gaps[0].lower() and any("loss" in line for line in gaps[1:])
    assert groups.read(run.folder) == found


def test_p_is_corrected_and_many_numbers_are_ranges(run):
    found = groups.by_group(run, "a", "train")
    assert len(found.groups) == groups.RANGES and max(group.records for group in found.groups) <= 121
    assert all(0 < group.apart["accuracy"].p <= 1 for group in found.groups)


def test_ranges_stand_in_their_order_and_their_names_do_not_run_together(run):
    found = groups.by_group(run, "a", "train")
    lows = [float(group.name[1:].partition(",")[0]) for group in found.groups]
    assert lows == sorted(lows) and found.groups[0].name.endswith(")") and found.groups[-1].name.endswith("]")
    gap = next(line for line in found.lines if line.startswith("largest gap of"))
    assert re.search(r" from \[\S+, \S+[)\]] to \[\S+, \S+[)\]]$", gap), gap


def test_numbers_that_the_model_takes_for_names_are_groups_of_their_own(run, monkeypatch):
    """Such as ids of shops."""
    named = [dataclasses.replace(entry, kind="category") for entry in run.codec.inputs]
    monkeypatch.setattr(predicting.Pairs, "inputs", property(lambda codec: tuple(named)))
    found = groups.by_group(run, "a", "train")
    assert len(found.groups) == groups.MOST + 1 and not any(group.name.startswith("[") for group in found.groups)


def test_small_groups_are_one_line_and_long_names_are_cut():
    sure = Interval(0.9, 0.8, 1.0)
    tiny = [groups.Group(f"tiny {i}", 3, {"accuracy": sure}, {}) for i in range(15)]
    large = groups.Group("a list of captions, " * 20, 100, {"accuracy": sure}, {"accuracy": Difference(0, -1, 1, 1.0)})
    rows = groups.Groups("caption", "test", "accuracy", (large, *tiny)).rows
    assert len(rows) == 3 and max(len(row[0]) for row in rows) <= groups.LETTERS
    assert rows[-1] == ("(15 groups of fewer than 20)", "45", "", "too few records to compare")


def test_what_a_group_cannot_have_is_left_out(run):
    """The records of each verdict are of one class, and have no AUC."""
    found = groups.by_group(run, "spam", "train")
    assert all("auc" not in group.metrics and "accuracy" in group.metrics for group in found.groups)
    assert groups.read(run.folder) == found and found.lines


def test_groups_that_nobody_has_are_refused(run):
    with pytest.raises(InputError, match='"regoin" is no column') as error:
        groups.by_group(run, "regoin")
    assert error.value.fix == "region"


def test_the_command_and_the_report_show_them(run, tmp_path, capsys):
    from suite.cli import app

    app.main(["evaluate", str(run.folder), "--by", "region", "--split", "train", "--allow", "tests"])
    assert "less the others" in capsys.readouterr().out
    suite.report(run.folder, "validation", to=tmp_path / "report.html", allow=("tests",))
    assert "suite evaluate --by" in (tmp_path / "report.html").read_text()


def test_many_values_are_one_group_together():
    names = groups._named([f"v{i % 30}" for i in range(300)] + [""])
    assert len(set(names)) == groups.MOST + 1 and groups.OTHERS in names
