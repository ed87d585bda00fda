"""Proposals and early ends of a study: they depend on the trials before, and on nothing a process remembers."""

import math
import time

import pytest

import suite
from suite.errors import InputError
from suite.experiment.goal import Choice, Goal, Range, Search
from suite.experiment.sections import replace
from suite.runtime.locks import Claim, held, seconds
from suite.tuning import space
from suite.tuning.study import STARTUP, Study, storage_url, without_password
from tests import toy

GOAL = Goal(metric="accuracy", at_least=2.0)
SPACE = (
    Range(field="optim.learning_rate", low=1e-5, high=1e-1, log=True),
    Range(field="train.batch_size", low=8, high=24, whole=True),
    Choice(field="task.examples", among=(100, 200)),
)


def experiment(**changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return replace(toy.experiment(), {"search": Search(space=SPACE, seed=1), **named})


def opened(folder, **search):
    recipe = experiment(**{f"search__{name}": value for name, value in search.items()})
    return Study(storage_url(folder, ""), "search", space.dimensions(recipe), GOAL, recipe.search)


def quality(values):
    """A made-up accuracy with one maximum."""
    return 1 - abs(math.log10(values["optim.learning_rate"] / 3e-3)) / 4 - (values["train.batch_size"] - 12) ** 2 / 999


def finish(study, number):
    study.end(number, "complete", quality(study.trials()[number].values), {"metrics": {}})


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """Values of trials that follow one another in one process, the last by the estimator."""
    study = opened(tmp_path_factory.mktemp("study"))
    for _ in range(STARTUP + 2):
        finish(study, study.begin())
    return [trial.values for trial in study.trials()]


def test_the_first_trial_is_the_recipe(left_alone):
    assert left_alone[0] == {"optim.learning_rate": 1e-2, "train.batch_size": 16, "task.examples": 200}
    assert len({tuple(values.values()) for values in left_alone}) == len(left_alone)
    for values in left_alone:
        assert 1e-5 <= values["optim.learning_rate"] <= 1e-1 and values["task.examples"] in (100, 200)
        assert values["train.batch_size"] in range(8, 25)


def test_proposals_remember_nothing(left_alone, tmp_path):
    """Each step in a process of its own, so to speak; of every other trial the values are left half chosen."""
    for number in range(len(left_alone)):
        if number % 2:
            study = opened(tmp_path)
            trial = study._study.ask()
            trial.suggest_float("optim.learning_rate", 1e-5, 1e-1, log=True)
            opened(tmp_path).take_up(number)
        else:
            assert opened(tmp_path).begin() == number
        finish(opened(tmp_path), number)
    assert [trial.values for trial in opened(tmp_path).trials()] == left_alone


def test_the_estimator_learns(tmp_path):
    """After the random ones its proposals are better than they were."""
    study = opened(tmp_path)
    for _ in range(15):
        finish(study, study.begin())
    values = [trial.value for trial in study.trials()]
    assert sum(values[-5:]) / 5 > sum(values[1:STARTUP]) / (STARTUP - 1)


def test_another_seed_proposes_otherwise(left_alone, tmp_path):
    study = opened(tmp_path, seed=2)
    finish(study, study.begin())
    study.begin()
    first, second = study.trials()
    assert first.values == left_alone[0] and second.values != left_alone[1]


def test_the_recipes_own_values_outside_the_space(tmp_path):
    """The first trial has them, the estimator does without, and the others lie inside."""
    recipe = experiment(optim__learning_rate=1.0, task__examples=50)
    study = Study(storage_url(tmp_path, ""), "search", space.dimensions(recipe), GOAL, recipe.search)
    for _ in range(STARTUP + 2):
        finish(study, study.begin())
    first, *others = [trial.values for trial in study.trials()]
    assert first == {"optim.learning_rate": 1.0, "train.batch_size": 16, "task.examples": 50}
    assert all(values["optim.learning_rate"] <= 0.1 and values["task.examples"] in (100, 200) for values in others)


def course(study, number, values):
    """Reports until the trial falls behind; how many evaluations that took, 0 where it never did."""
    for place, value in enumerate(values, 1):
        study.report(number, 10 * place, value)
        if study.falls_behind(number):
            study.end(number, "pruned", None, {"reason": "the pruner"})
            return place
    study.end(number, "complete", max(values), {"metrics": {}})
    return 0


def test_the_median_ends_what_is_worse_than_most(tmp_path):
    study = opened(tmp_path)
    good, bad = [0.5, 0.6, 0.7], [0.1, 0.2, 0.3]
    ends = [course(study, study.begin(), values) for values in (bad, good, bad, good, good, bad, good)]
    assert ends == [0, 0, 0, 0, 0, 1, 0]  # three must have come to their end before
    assert study.trials()[5].value == 0.1 and study.trials()[5].state == "pruned"


@pytest.mark.parametrize("pruner", ["hyperband", "none"])
def test_hyperband_keeps_a_third_at_each_rung(pruner, tmp_path):
    study = opened(tmp_path, pruner=pruner)
    rising = lambda level: [level + i / 100 for i in range(5)]
    ends = [course(study, study.begin(), rising((7 * i % 10) / 10)) for i in range(8)]
    assert ends[0] == 0, "the recipe's own values run to the end"
    assert {end for end in ends if end} == (set() if pruner == "none" else {1, 3})


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_what_ends_early_is_judged_again_alike(pruner, tmp_path):
    """Asked twice, by a process of its own, as after a kill, it says the same; and asking leaves nothing behind."""
    study, judged = opened(tmp_path, pruner=pruner), []
    for level in (0.5, 0.6, 0.4, 0.7, 0.1, 0.8):
        number = study.begin()
        for place in range(1, 5):
            study.report(number, place, level + place / 100)
            other = opened(tmp_path, pruner=pruner)
            judged.append(other.falls_behind(number))
            assert other.falls_behind(number) == study.falls_behind(number) == judged[-1]
            if judged[-1]:
                break
        study.end(number, *(("pruned", None) if judged[-1] else ("complete", level)), {})
    assert set(judged) == {True, False}
    assert not [name for trial in study._study.trials for name in trial.system_attrs if "rung" in name]


def test_lower_is_better_where_the_goal_says_so(tmp_path):
    recipe = experiment()
    goal = Goal(metric="loss", at_most=0.1)
    study = Study(storage_url(tmp_path, ""), "search", space.dimensions(recipe), goal, recipe.search)
    ends = [course(study, study.begin(), [value] * 3) for value in (0.2, 0.3, 0.4, 0.1, 0.9)]
    assert ends == [0, 0, 0, 0, 1]


def test_an_address_of_a_database():
    assert without_password("") == ""
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    with pytest.raises(InputError) as error:
        without_password("study.db")
    assert str(error.value) == (
        "flag --storage: is no address of a database.\n  try:   --storage postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def test_no_database_there(tmp_path):
    with pytest.raises(InputError, match="flag --storage: is no database that can be opened"):
        Study("sqlite:////proc/none/study.db", "search", space.dimensions(experiment()), GOAL, Search())
    with pytest.raises(InputError, match="flag --storage: is no database that can be opened"):
        Study("postgresql://me@localhost:1/db", "search", space.dimensions(experiment()), GOAL, Search())


def test_one_process_has_a_trial(tmp_path, child):
    """The kernel lets go of the lock of a process that died, however it died; seconds are counted on."""
    holder = f"""
from pathlib import Path
import os, signal
from suite.runtime.locks import Claim
claim = Claim.take(Path({str(tmp_path)!r}))
claim.note(0.0)
if os.fork() == 0:
    os.execv("/bin/true", ["true"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(AssertionError):
        child(holder)
    claim = Claim.take(tmp_path)
    assert claim is not None and Claim.take(tmp_path) is None
    with claim:
        before = seconds(tmp_path)
        time.sleep(0.05)
        assert claim.note(every=60) >= before + 0.05
        assert seconds(tmp_path) == before
    assert seconds(tmp_path) >= before + 0.05
    with Claim.take(tmp_path) as again:
        assert again.note() >= before + 0.05
    with held(tmp_path / "lock"), held(tmp_path / "other"):
        assert (tmp_path / "lock").exists()


def test_the_recipes_can_be_searched():
    for name in (
        "text.sst2_minilm",
        "text.sst2_minilm_10k",
        "vision.fashion_mnist_dnn",
        "vision.fashion_mnist_resnet",
        "speech.fsdd_keyword",
        "recommendation.movielens_deepfm",
    ):
        recipe = suite.load(name)
        assert all(part.inside for part in space.dimensions(recipe)) and recipe.search.space
        assert recipe.goal.budget.hours > 0
