"""Goals and budgets in words, searches without a goal, and the search spaces of recipes for own data."""

import dataclasses
import json

import pytest

import suite
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.goal import Budget, Goal, Search
from suite.experiment.sections import replace
from suite.experiment.serialization import from_json, to_json
from suite.reporting import verdicts
from suite.tasks.vision.defaults import ByPictures
from suite.tuning import space, tuning
from tests import toy

OWN_DATA = (
    "recommendation.click",
    "speech.classify",
    "speech.recognize",
    "text.classify",
    "text.encoder",
    "text.finetune",
    "text.language_model",
    "text.translate",
    "vision.classify",
    "vision.finetune",
    "vision.label",
    "vision.regress",
)


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("accuracy>=0.9", Goal(metric="accuracy", at_least=0.9)),
        ("test/recall@20>=0.3", Goal(metric="recall_20", at_least=0.3, on="test")),
        (" test/wer <= 10% ", Goal(metric="wer", at_least=None, at_most=0.1, on="test")),
        ("validation/top-5>=.5", Goal(metric="top-5", at_least=0.5)),
        ("loss<=1e-3", Goal(metric="loss", at_least=None, at_most=0.001)),
        ("accuracy", Goal(metric="accuracy", at_least=None)),
    ],
)
def test_a_goal_in_words(text, goal):
    assert Goal(text) == goal == from_json(json.loads(json.dumps(to_json(goal))))
    if not goal.open:
        assert Goal(str(goal)) == goal  # as messages and verdict.json say it
    assert dataclasses.replace(goal, budget=Budget("20m")).budget.hours == pytest.approx(1 / 3)


@pytest.mark.parametrize("text", ["accuracy>0.9", "accuracy=0.9", "accuracy>=", "accuracy>=much", "two words", ">=0.9"])
def test_what_is_no_goal(text):
    with pytest.raises(InputError) as error:
        Goal(text)
    assert error.value.where == f'goal "{text}"' and error.value.fix == '--goal "accuracy>=0.9"'


@pytest.mark.parametrize(
    ("budget", "trials", "minutes"),
    [
        (Budget("20m"), 0, 20),
        (Budget(minutes=20), 0, 20),
        (Budget("1.5h, 30 trials"), 30, 90),
        (Budget("90 s"), 0, 1.5),
        (Budget("1 hour"), 0, 60),
        (Budget("2 days"), 0, 2880),
        (Budget("10 min"), 0, 10),
        (Budget("7 trials"), 7, 0),
        (Budget(), 20, 0),
        (Budget(hours=2), 20, 120),
        (Budget(minutes=5, trials=3), 3, 5),
    ],
)
def test_a_budget_in_words(budget, trials, minutes):
    assert (budget.trials, budget.hours * 60) == (trials, pytest.approx(minutes))
    assert from_json(json.loads(json.dumps(to_json(budget)))) == budget


@pytest.mark.parametrize("text", ["20", "m", "0m", "0 trials", "1.5 trials", "20 apples", ","])
def test_what_is_no_budget(text):
    with pytest.raises(InputError, match="flag --budget"):
        Budget(text)


def test_stored_goals_read_as_before():
    """Of version 0.1: no None, and at_least beside at_most."""
    stored = {"class": "suite.config.Goal", "metric": "loss", "at_least": 0.0, "at_most": 0.5, "on": "test"}
    goal = from_json({**stored, "budget": {"class": "suite.config.Budget", "trials": 5, "hours": 0.0}})
    assert (goal.lower, goal.open, goal.bound, str(goal)) == (True, False, 0.5, "test/loss <= 0.5")
    assert goal.met(0.4) and not goal.met(0.6)


def small(**changes):
    made = replace(toy.experiment(steps=20, eval_batch_size=64, ema=0.0), {"search": Search(seed=1)})
    return replace(made, changes)


@pytest.mark.parametrize(
    ("goal", "problem", "fix"),
    [
        ("loss>=0.3", "lower loss is better.", "--goal 'loss<=0.3'"),
        ("accuracy<=0.9", "higher accuracy is better.", "--goal 'accuracy>=0.9'"),
        ("acuracy>=0.9", '"acuracy" is no metric of this task.', "--goal.metric accuracy"),
    ],
)
def test_a_goal_that_cannot_be_is_refused_before_training(goal, problem, fix, tmp_path):
    with pytest.raises(InputError) as error:
        suite.tune(small(), tmp_path / "search", goal=suite.Goal(goal))
    assert (error.value.problem, error.value.fix) == (problem, fix)
    assert not (tmp_path / "search").exists()


def test_without_a_goal_the_best_within_the_budget_is_given(tmp_path):
    verdict = suite.tune(small(), tmp_path / "search", budget=suite.Budget("2 trials"))
    values = [trial["value"] for trial in verdict.trials]
    assert verdict.met and verdict.margin is None and verdict.stopped_by == "trials" and len(values) == 2
    assert verdict.validation["accuracy"] == max(value for value in values if value is not None)
    assert verdict.sentence.startswith(
        f"the best validation/accuracy: {verdict.validation['accuracy']:.6g} (2 trials, "
    )
    assert verdict.run.experiment.goal == Goal("accuracy", budget=Budget("2 trials"))
    again = suite.tune(small(), tmp_path / "search", budget=suite.Budget("2 trials"))
    assert (again.sentence, again.trial) == (verdict.sentence, verdict.trial)
    told = json.loads((tmp_path / "search" / "verdict.json").read_text())
    assert verdicts._search(told) == [
        f"A search of 2 trials for the best validation/accuracy used up its trials; this is its trial {verdict.trial}."
    ]


def test_the_best_loss_is_the_lowest(tmp_path):
    made = small(**{"train.best": "loss"})
    assert tuning.aimed(made).goal == Goal("loss") and tuning.aimed(made).goal.lower
    verdict = suite.tune(made, tmp_path / "search", budget=suite.Budget("2 trials"))
    assert verdict.validation["loss"] == min(t["value"] for t in verdict.trials if t["value"] is not None)


def test_the_time_of_a_budget_ends_a_search(tmp_path):
    """The first trial is finished however long it takes; a time that is spent begins no other."""
    verdict = suite.tune(small(), tmp_path / "search", budget=suite.Budget("0.001s"))
    assert len(verdict.trials) == 1 and verdict.trials[0]["state"] == "complete" and verdict.stopped_by == "hours"
    assert verdict.sentence.endswith("; its time is spent)")


def test_of_equal_trials_the_one_with_the_lower_loss_is_chosen():
    from suite.tuning.search import Search as Running
    from suite.tuning.study import Trial

    def trial(number, loss):
        return Trial(number, "complete", 0.8, {}, {}, {"metrics": {"validation/loss": loss}})

    running = Running(small(), Goal("accuracy>=0.9"), None, (), None, False)
    assert running.best([trial(0, 1.55), trial(1, 0.68), trial(2, 0.68)]).number == 1
    assert running.best([trial(0, float("nan")), trial(1, float("nan"))]).number == 0


def test_goals_and_budgets_given_take_the_place_of_the_recipes():
    own = small(goal=Goal("accuracy>=0.5", budget=Budget(trials=3)))
    assert tuning.aimed(own).goal == own.goal
    assert tuning.aimed(own, Goal("loss<=1")).goal == Goal("loss<=1", budget=Budget(trials=3))
    assert tuning.aimed(own, Goal("loss<=1"), Budget("5m")).goal == Goal("loss<=1", budget=Budget("5m"))
    assert tuning.aimed(own, None, Budget("5m")).goal == Goal("accuracy>=0.5", budget=Budget("5m"))
    with pytest.raises(InputError, match=r"train\.best names no metric"):
        tuning.aimed(small(**{"train.best": ""}))


@pytest.mark.parametrize("name", OWN_DATA)
def test_recipes_for_own_data_have_a_search_space(name):
    """Several fields, the recipe's own values inside, a warm-up that suits any number of steps, and patience."""
    for smoke in (False, True):
        made = recipes.load(name, smoke=smoke)
        found = space.dimensions(made)
        assert len(found) >= 3 and all(part.inside for part in found)
        assert made.optim.warmup_steps == 0
        if not isinstance(made.defaults, ByPictures):  # which chooses it from the number of pictures
            assert made.train.patience > 0


def test_goal_and_budget_on_the_command_line(tmp_path, monkeypatch, capsys):
    from suite.cli.app import main

    monkeypatch.chdir(tmp_path)
    recipe = "from tests.tuning.test_goals import small\n\n\ndef experiment():\n    return small()\n"
    (tmp_path / "mine.py").write_text(recipe)
    main(["tune", "mine.py", "--run-dir", "s", "--budget", "1 trial", "--train.best", "loss"])
    assert capsys.readouterr().out.startswith("the best validation/loss: ")
    with pytest.raises(SystemExit) as stopped:
        main(["tune", "mine.py", "--run-dir", "t", "--goal", "accuracy>=101%", "--budget", "1 trial"])
    told = capsys.readouterr()
    assert stopped.value.code == 3 and "goal validation/accuracy >= 1.01: missed by" in told.err
    with pytest.raises(SystemExit) as stopped:
        main(["tune", "mine.py", "--run-dir", "u", "--goal", "loss>=0.1"])
    assert stopped.value.code == 2 and "suite tune mine.py --run-dir u --goal 'loss<=0.1'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["tune", "run"])
def test_a_goal_that_the_shell_took_apart(verb, monkeypatch):
    """``--goal accuracy>=0.9`` without quotes: the metric alone, and a file called ``=0.9``."""
    from suite.cli import run, shared_flags, tune
    from suite.cli.flags import parse

    monkeypatch.setattr(shared_flags.os, "readlink", lambda path: "/mnt/=0.9")
    kind = {"tune": tune.Tune, "run": run.Run}[verb]
    with pytest.raises(InputError, match="has lost its value to the shell") as error:
        parse(kind, ["vision.digits_dnn", "--goal", "accuracy"]).resolved()
    assert error.value.fix == "--goal 'accuracy>=0.9'"
    monkeypatch.setattr(shared_flags.os, "readlink", lambda path: "/mnt/log.txt")
    assert parse(kind, ["vision.digits_dnn", "--goal", "accuracy"]).resolved().goal.open
