"""From a recipe to a bundle and a page: each stage once, whatever stops it; what is not good enough doesn't leave."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import suite
from suite.cli import app
from suite.data.sources.datasets import Digits
from suite.errors import InputError, Interrupted
from suite.experiment.goal import Budget, Goal
from suite.workflow import deliver
from tests import forked
from tests.conftest import ROOT
from tests.delivery_recipe import experiment

RECIPE = ROOT / "tests" / "delivery_recipe.py"


def told(folder):
    """What was decided, without what a clock said."""
    made = json.loads((folder / "delivery.json").read_text())
    made.pop("goal")
    verdict = json.loads((folder / "tune" / "verdict.json").read_text())
    verdict["trials"] = [{**trial, "seconds": 0} for trial in verdict["trials"]]
    small = {name: made["compressed"][name] for name in ("method", "metric", "before", "after", "drop", "met", "size")}
    return {**made, "compressed": small, "verdict": verdict}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """A delivery that nothing disturbed, by the command line: folder, process, seconds."""
    folder, begun = tmp_path_factory.mktemp("delivery") / "digits", time.monotonic()
    done = forked.run(
        [sys.executable, "-m", "suite", "run", str(RECIPE), "--run-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done, time.monotonic() - begun


def test_all_stages_and_their_verdict(left_alone):
    folder, done, _ = left_alone
    assert done.returncode == 0, done.stderr
    made = told(folder)
    assert made["met"] and made["verdict"]["met"] and made["verdict"]["stopped_by"] == "goal"
    assert len(made["verdict"]["trials"]) > 1, "the recipe's own values miss the goal"
    assert made["compressed"]["method"] == "int8" and made["compressed"]["met"]
    assert made["compressed"]["size"]["ratio"] < 0.3
    assert (made["bundle"], made["report"]) == ("bundle", "report.html")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("goal test/accuracy >= 0.8: met, by ")
    assert lines[1].startswith("int8: test/accuracy is ") and lines[1].endswith("at most 0.005 allowed: met")
    assert lines[2:] == [f"{folder / 'bundle'}: the smaller model", str(folder / "report.html"), str(folder)]
    page = (folder / "report.html").read_text()
    assert "<h2" in page and "Compression" in page and "Search" in page


def test_the_bundle_is_the_smaller_model(left_alone):
    bundle = suite.Bundle.open(left_alone[0] / "bundle")
    assert {str(value.dtype) for value in bundle.weights.values()} >= {"int8"}
    source = experiment().task.source("test")
    images, labels = source[np.arange(50)]["image"], source[np.arange(50)]["label"]
    answers = [answer["label"] for answer in bundle.predict(images)]
    assert np.mean([said == str(label) for said, label in zip(answers, labels, strict=True)]) >= 0.75


def test_again_is_at_once(left_alone):
    folder, done, _ = left_alone
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    made = suite.deliver(experiment(), folder)
    assert str(made) == "\n".join(done.stdout.splitlines()[:-1])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_was_begun_otherwise_is_refused(left_alone):
    folder = left_alone[0]
    with pytest.raises(InputError) as refused:
        suite.deliver(experiment(), folder, max_drop=0.01)
    assert str(refused.value) == (
        f'--run-dir "{folder}": was begun with another max-drop.\n  found: 0.005\n'
        "  try:   the same flags, or another --run-dir"
    )
    with pytest.raises(InputError, match="was begun with another method"):
        suite.deliver(experiment(), folder, method=None)
    trial = next((folder / "tune" / "trials").iterdir())
    with pytest.raises(InputError, match="holds something else"):
        suite.deliver(experiment(), trial)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"method": suite.Quantize("int7")}, 'flag --quantize: there is no format "int7".'),
        ({"method": suite.Prune(1.5)}, "flag --prune: must be above 0 and below 1."),
        ({"method": suite.Distill("vision.digitz")}, "experiment"),
        ({"name": "film reviews"}, '--name "film reviews": must be letters, digits, points,'),
        (
            {"experiment": suite.replace(experiment(), {"goal": None, "train.best": ""})},
            "field goal: is None, and train.best names no metric",
        ),
        ({"goal": Goal("loss>=0.1")}, "field goal: lower loss is better."),
        (
            {"experiment": suite.replace(experiment(), {"name": "digits, mine"})},
            '--name "digits, mine": must be letters,',
        ),
    ],
)
def test_what_would_be_refused_at_the_end_is_refused_at_once(given, message, tmp_path):
    with pytest.raises(InputError) as refused:
        suite.deliver(**{"experiment": experiment(), "run_dir": tmp_path / "run", **given})
    assert str(refused.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_what_has_not_begun_may_be_asked_otherwise(tmp_path):
    """While the search runs all of it, then what the bundle is called, then nothing."""
    folder, first = tmp_path / "run", {"method": "int8", "max_drop": 0.005, "name": "", "licence": ""}

    def asked():
        return json.loads((folder / "asked.json").read_text())

    deliver._claim(folder, first)
    other = {**first, "method": "int4", "max_drop": 0.01}
    deliver._claim(folder, other)
    assert asked() == other
    (folder / "compressed").mkdir()
    deliver._claim(folder, {**other, "name": "mine"})
    assert asked()["name"] == "mine"
    with pytest.raises(InputError, match=r"was begun with another method\.\n  found: int4"):
        deliver._claim(folder, {**first, "name": "mine"})
    (folder / "bundle").mkdir()
    with pytest.raises(InputError, match="was begun with another licence"):
        deliver._claim(folder, {**other, "name": "mine", "licence": "MIT"})
    assert asked() == {**other, "name": "mine"}


@dataclass(frozen=True, kw_only=True)
class Mine(Digits):
    """Data of a user's own class."""


def test_stopped_while_nothing_is_trained_it_goes_on(tmp_path, monkeypatch):
    """By SIGTERM where the report is written, of a recipe whose data are of no package of the suite."""

    def stopping(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    goal = Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=1))
    recipe = suite.replace(experiment(), {"goal": goal, "task.data": Mine(), "train.steps": 10, "train.eval_every": 10})
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(deliver.reports, "report", stopping)
        with pytest.raises(Interrupted) as stopped:
            suite.deliver(recipe, folder)
    assert str(stopped.value) == f"interrupted; go on with: suite run vision.digits_dnn --run-dir {folder}"
    assert stopped.value.folder == folder and not (folder / "delivery.json").exists()
    assert suite.deliver(recipe, folder).report.is_file() and (folder / "delivery.json").exists()


def test_the_command_says_what_was_missed(tmp_path, monkeypatch, capsys):
    drop = {
        "met": False,
        "method": "int8",
        "split": "test",
        "metric": "accuracy",
        "max_drop": 0.005,
        "drop": {"value": 0.02, "low": 0.01, "high": 0.03},
    }
    tuned = SimpleNamespace(met=True, sentence="goal test/accuracy >= 0.8: met, by 0.1")
    made = deliver.Delivery(tmp_path, tuned, drop, tmp_path / "bundle", tmp_path / "report.html")
    monkeypatch.setattr(deliver, "deliver", lambda *arguments, **named: made)
    with pytest.raises(SystemExit) as stop:
        app.main(["run", str(RECIPE), "--run-dir", str(tmp_path)])
    assert stop.value.code == app.MISSED
    assert capsys.readouterr().err == "suite run: test/accuracy is worse by 0.02, at most 0.005 allowed: not met\n"


def test_flags_that_contradict_each_other(refused):
    assert refused("run", str(RECIPE), "--as-trained", "--quantize", "int8") == (
        "suite run: flag --as-trained: leaves the model as it is, and another flag makes it smaller.\n"
        "  found: --quantize\n  try:   leave one of them out\n"
    )
    assert refused("run", str(RECIPE), "--as-trained", "--aware").splitlines()[1] == "  found: --aware"
    assert refused("run", str(RECIPE), "--baseline").startswith("suite run: flag --baseline: belongs to --distill.\n")


def test_what_misses_its_goal_does_not_leave(tmp_path, capsys):
    goal = Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=1))
    made = suite.deliver(suite.replace(experiment(), {"goal": goal}), tmp_path / "run")
    assert not made.met and made.bundle is None and made.compressed is None and made.report.is_file()
    assert not (tmp_path / "run" / "bundle").exists()
    how = f"suite export {made.tuned.run.folder} --to BUNDLE makes one"
    assert f"no bundle, since the goal was missed; {how}" in str(made)
    with pytest.raises(SystemExit) as stop:
        app.main(
            [
                "run",
                str(RECIPE),
                "--run-dir",
                str(tmp_path / "other"),
                "--goal.at_least",
                "1.01",
                "--goal.budget.trials",
                "1",
            ]
        )
    assert stop.value.code == app.MISSED
    assert "suite run: goal test/accuracy >= 1.01: missed by " in capsys.readouterr().err


def test_what_compression_harms_leaves_as_it_was(tmp_path):
    """Asked for a gain of half, which no rounding brings."""
    made = suite.deliver(suite.replace(experiment(), {"optim.learning_rate": 1e-2}), tmp_path / "run", max_drop=-0.5)
    assert not made.met and made.tuned.met and not made.compressed["met"]
    assert "the model as it was" in str(made)
    assert {str(value.dtype) for value in suite.Bundle.open(made.bundle).weights.values()} == {"float32"}


def killed_and_begun_again(folder, left_alone, moments):
    """Kill after so many seconds, one time after another, then let it end; the verdict is the undisturbed one."""
    command = ["run", str(RECIPE), "--run-dir", str(folder)]
    for seconds in moments:
        child = [sys.executable, "-m", "tests.delivery_child", f"{seconds:.2f}", *command]
        done = forked.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (-9, 0), done.stderr
    done = forked.run([sys.executable, "-m", "suite", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert told(folder) == told(left_alone[0])


def test_a_kill_changes_no_verdict(tmp_path, left_alone):
    killed_and_begun_again(tmp_path / "run", left_alone, [0.6 * left_alone[2]])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_five_kills_at_random_change_no_verdict(tmp_path, left_alone, seed):
    moments = np.random.default_rng(seed).uniform(2.0, 0.8 * left_alone[2], 5)
    killed_and_begun_again(tmp_path / "run", left_alone, moments)


def test_two_methods_are_refused():
    with pytest.raises(SystemExit) as stop:
        app.main(["run", "vision.digits_dnn", "--quantize", "int8", "--prune", "0.5"])
    assert stop.value.code == 2
