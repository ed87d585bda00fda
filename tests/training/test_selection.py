"""Selection of the checkpoint that is served: which way a metric is better, ties, and names that are none."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

import suite
from suite.contracts.metric_meaning import check_metric, check_selection, lower_is_better, register_metric, undirected
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.sections import Train, replace
from suite.runtime.files import is_run
from suite.training.checkpoint import Checkpoints, Progress, Score, rank
from suite.training.evaluator import BestTracker
from tests import toy


def tracked(best, *evaluations):
    """Progress after evaluations, each the metrics by name."""
    tracker, progress = BestTracker(Train(best=best)), Progress()
    for step, metrics in enumerate(evaluations, 1):
        score = tracker.score({f"validation/{name}": value for name, value in metrics.items()})
        progress = progress if score is None else tracker.track(progress, score, step)
    return progress


@pytest.mark.parametrize("best", ["loss", "-loss"])
def test_a_loss_is_better_lower_with_or_without_a_minus(best):
    assert tracked(best, {"loss": 4.0}, {"loss": 3.6}, {"loss": 3.9}).best_step == 2


def test_which_way_the_metrics_of_recipes_are_better_is_known_before_a_task_is_loaded():
    """A recipe whose task measures its loss itself kept the highest."""
    chosen = {recipes.load(name).train.best for name in recipes.names()}
    lower = sorted(name for name in chosen if not name.startswith("-") and lower_is_better(name))
    assert "loss" in lower
    code = f"from suite.contracts import metric_meaning as m; assert all(map(m.lower_is_better, {lower}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_equal_scores_the_lower_loss_then_the_earlier_step():
    same = {"accuracy": 0.8}
    progress = tracked("accuracy", {**same, "loss": 1.55}, {**same, "loss": 0.68}, {**same, "loss": 0.68})
    assert (progress.best_step, progress.best_loss, progress.since_best) == (2, 0.68, 2)
    assert tracked("accuracy", same, same, same).best_step == 1
    assert tracked("accuracy", same, {**same, "loss": math.nan}).best_step == 1
    assert tracked("accuracy", {**same, "loss": 0.1}, {"accuracy": 0.9, "loss": 9.0}).best_step == 2


def test_a_metric_that_is_no_number_is_no_score():
    progress = tracked("auc", {"auc": math.nan}, {"auc": 0.6}, {"auc": math.nan})
    assert (progress.best, progress.best_step) == (0.6, 2)


def test_the_rank_of_stored_checkpoints_is_that_of_the_tracker(tmp_path):
    """Also of checkpoints of version 0.1, which hold the score alone: of equal ones the later."""
    evaluations = {1: Score(0.5, 0.9), 2: Score(0.8, 1.5), 3: Score(0.8, 0.7), 4: Score(0.8, 0.7), 5: Score(0.2, 0.1)}
    assert max(evaluations, key=lambda step: rank(evaluations[step].stored(step))) == 3
    for step, metrics in {1: {"best": 0.8}, 2: {"best": 0.8}, 3: {"best": 0.1}}.items():
        (tmp_path / str(step) / "metrics").mkdir(parents=True)
        (tmp_path / str(step) / "metrics" / "metrics").write_text(json.dumps(metrics))
    assert Checkpoints(tmp_path, writing=False).best == 2
    (tmp_path / "3" / "metrics" / "metrics").write_text(json.dumps(Score(0.8, 0.4).stored(3)))
    assert Checkpoints(tmp_path, writing=False).best == 3


def test_the_checkpoint_of_the_lower_loss_is_kept_and_served(tmp_path):
    """A learning rate of 0 leaves accuracy and loss as they are: the first evaluation is kept among four equal ones."""
    made = suite.train(
        replace(toy.experiment(steps=40), {"optim.learning_rate": 0.0, "checkpoint.keep": 1}), tmp_path / "run"
    )
    kept = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal()}
    assert kept == {10, 40} and made.metrics["train/best_step"] == 10
    with Checkpoints(tmp_path / "run" / "checkpoints", writing=False) as checkpoints:
        assert checkpoints.served == 10


@pytest.mark.parametrize(
    ("best", "problem", "fix"),
    [
        ("-accuracy", '"-accuracy" would keep the lowest accuracy, and higher is better.', "--train.best accuracy"),
        ("acuracy", '"acuracy" is no metric of this task.', "--train.best accuracy"),
        ("-los", '"los" is no metric of this task.', "--train.best loss"),
        ("skipped_steps_of_test", '"skipped_steps_of_test" ranks nothing: no way is better.', "--train.best loss"),
    ],
)
def test_a_selection_that_cannot_be_is_refused_before_the_first_step(best, problem, fix, tmp_path):
    register_metric("skipped_steps_of_test", "Of no use.")
    steps: list[object] = []
    with pytest.raises(InputError) as error:
        suite.train(toy.experiment(best=best), tmp_path / "run", on_dispatch=steps.append)
    assert (error.value.where, error.value.problem, error.value.fix) == ("field train.best", problem, fix)
    assert not steps and not is_run(tmp_path / "run")


def test_what_may_select():
    for best in ("", "accuracy", "loss", "-loss", "own", "-own"):
        check_selection(best)
    with pytest.raises(InputError, match='"calibration" ranks nothing: it should be near 1'):
        import suite.evaluation.metrics.ranking  # noqa: F401

        check_selection("calibration")
    check_metric("anything", (), "goal.metric")  # names are not known yet
    assert [undirected(best) for best in ("own", "-own", "accuracy", "")] == [True, False, False, False]


def test_a_metric_without_a_direction_is_told_of(tmp_path, monkeypatch, capsys):
    scored = toy.Parity.score

    def score(task, outputs, batch, reference=None):
        known = scored(task, outputs, batch, reference)
        return {**known, "own": known["accuracy"]}

    monkeypatch.setattr(toy.Parity, "score", score)
    suite.train(toy.experiment(steps=10, best="own"), tmp_path / "run")
    assert 'nothing says which way "own" is better, so the highest is kept; --train.best=-own keeps the lowest' in (
        capsys.readouterr().err
    )


def test_a_stored_run_keeps_its_minus(tmp_path):
    """A run of version 0.1 that keeps the worst goes on so: its scores have that sign."""
    folder = tmp_path / "run"
    suite.train(toy.experiment(steps=10), folder)
    stored = json.loads((folder / "experiment.json").read_text())
    stored["train"].update(best="-accuracy", steps=20)
    (folder / "experiment.json").write_text(json.dumps(stored))
    assert suite.resume(folder, ("tests",)).metrics["train/steps"] == 20


@pytest.mark.parametrize(("given", "steps", "expected"), [((5, 0.0), 20, 5), ((50, 0.0), 20, 2), ((0, 0.25), 20, 5)])
def test_warm_up_of_short_runs(given, steps, expected):
    from suite.training.optim.schedules import schedule, warmup

    optim = dataclasses.replace(toy.experiment().optim, warmup_steps=given[0], warmup_fraction=given[1])
    assert warmup(optim, steps) == expected
    rates = [float(schedule(optim, steps)(step)) for step in range(steps)]
    assert rates[0] == 0 and max(rates) == pytest.approx(rates[expected]) == pytest.approx(optim.learning_rate)


def test_a_shortened_warm_up_is_told_of(tmp_path, capsys):
    suite.train(replace(toy.experiment(steps=10), {"optim.warmup_steps": 50}), tmp_path / "run")
    assert "warm-up shortened from 50 steps to 1: the run has 10" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["text.language_model", "recommendation.click"])
def test_a_recipe_knows_the_directions_of_its_metrics_where_it_alone_is_loaded(name):
    """A metric is registered by a module that its task imports, not by one that other tasks do."""
    code = f"""
from suite.contracts.metric_meaning import better
from suite.experiment import recipes
recipe = recipes.load("{name}")
print(better("accuracy" if "{name}".startswith("text") else "auc"), better(recipe.train.best.removeprefix("-")))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == ["higher", "lower"]
