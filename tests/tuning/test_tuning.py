"""The goal loop on real trainings: where it begins, what stops it, what it says; no kill changes its verdict."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import suite
from suite.cli import app
from suite.contracts.data import Source
from suite.distribution import install
from suite.errors import InputError, RunError, unused
from suite.experiment.goal import Budget, Choice, Goal, Range, Search
from suite.experiment.sections import replace
from suite.runtime.locks import Claim
from suite.tuning import recipe, space, tuning
from tests import forked, toy
from tests.conftest import ROOT
from tests.tuning.tuning_recipe import experiment

RECIPE = ROOT / "tests" / "tuning" / "tuning_recipe.py"


def small(**changes):
    """Twenty steps and two evaluations a trial; a goal that is out of reach."""
    made = toy.experiment(steps=20, eval_every=10, log_every=10, ema=0.0, eval_batch_size=64)
    goal = Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=2))
    return replace(made, {"goal": goal, **{name.replace("__", "."): value for name, value in changes.items()}})


def told(folder):
    """The verdict on the disk, without what a clock said."""
    verdict = json.loads((folder / "verdict.json").read_text())
    return {**verdict, "trials": [{**trial, "seconds": 0} for trial in verdict["trials"]]}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """A search that nothing disturbed, by the command line: folder, exit code, both outputs."""
    folder = tmp_path_factory.mktemp("search") / "search"
    done = forked.run(
        [sys.executable, "-m", "suite", "tune", str(RECIPE), "--run-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done


def test_a_goal_that_is_missed(left_alone):
    folder, done = left_alone
    assert done.returncode == app.MISSED == 3, done.stderr
    assert "Traceback" not in done.stderr
    verdict = told(folder)
    assert (verdict["goal"], verdict["met"], verdict["stopped_by"]) == ("validation/accuracy >= 1.01", False, "trials")
    assert [trial["number"] for trial in verdict["trials"]] == list(range(7))
    best = max(trial["value"] for trial in verdict["trials"] if trial["state"] == "complete")
    assert verdict["validation"]["accuracy"] == best and verdict["margin"] == pytest.approx(best - 1.01)
    chosen = verdict["trials"][verdict["chosen"]["trial"]]
    assert (chosen["value"], chosen["values"]) == (best, verdict["chosen"]["values"])
    assert verdict["chosen"]["folder"] == f"trials/{chosen['number']:04d}"
    assert done.stderr.splitlines()[-1].startswith(
        f"suite tune: goal validation/accuracy >= 1.01: missed by {1.01 - best:.4g} (7 tr"
    )
    assert done.stderr.count("the best so far is") == 7


def test_a_person_can_read_it(left_alone):
    folder, done = left_alone
    lines, verdict = done.stdout.splitlines(), told(folder)
    number = verdict["chosen"]["trial"]
    assert lines[0].startswith("goal validation/accuracy >= 1.01: missed by ") and "its trials are spent" in lines[0]
    assert lines[1].startswith(f"chosen: trial {number}, task.examples ")
    assert lines[-1] == str(folder / "trials" / f"{number:04d}")
    assert f"{'test/accuracy':32} {verdict['test']['accuracy']:.6g}" in lines
    result = json.loads((folder / "result.json").read_text())
    assert result["verb"] == "tune" and result["metrics"]["test/accuracy"] == verdict["test"]["accuracy"]


def test_the_first_trial_is_the_recipe_and_runs_to_its_end(left_alone):
    first = told(left_alone[0])["trials"][0]
    assert first["values"] == {"task.examples": 200, "optim.learning_rate": 1e-2}
    assert (first["state"], first["steps"]) == ("complete", 40)
    alone = suite.train(experiment(), left_alone[0].parent / "alone")
    assert alone.metrics["validation/accuracy"] == first["value"], "the run's own metric, of what it serves"


def test_some_trials_end_early(left_alone):
    folder = left_alone[0]
    early = [trial for trial in told(folder)["trials"] if trial["state"] == "pruned"]
    assert early and all(trial["number"] > 2 for trial in early)
    for trial in early:
        run = suite.open(folder / "trials" / f"{trial['number']:04d}", allow=("tests",))
        assert max(run.history["step"]) == trial["steps"] < 40
        assert trial["reason"] == f"median pruner, at step {trial['steps']}"


def test_only_the_best_keeps_its_checkpoints(left_alone):
    folder = left_alone[0]
    kept = [path.parent.name for path in sorted(folder.glob("trials/*/checkpoints"))]
    assert kept == [f"{told(folder)['chosen']['trial']:04d}"]
    assert len(list(folder.glob("trials/*/metrics.jsonl"))) == len(list(folder.glob("trials/*/experiment.json"))) == 7


def test_the_chosen_run_is_a_run(left_alone):
    verdict = suite.tune(experiment(), left_alone[0])
    assert verdict.run.folder.name == f"{verdict.trial:04d}"
    assert verdict.run.metrics["test/accuracy"] == verdict.test["accuracy"]
    assert verdict.run.evaluate("validation").metrics["validation/accuracy"] == verdict.validation["accuracy"]
    assert len(verdict.run.predict([[1, 2, 3], [1]])) == 2
    again = suite.open(verdict.run.folder, allow=("tests",)).experiment
    assert again.optim.learning_rate == verdict.values["optim.learning_rate"]


def test_a_verdict_is_final(left_alone, capsys):
    folder, done = left_alone
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json*")}
    with pytest.raises(SystemExit) as stop:
        app.main(["tune", str(RECIPE), "--run-dir", str(folder)])
    printed = capsys.readouterr()
    assert stop.value.code == 3 and printed.out == done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json*")}


PLACES = ["kill:step/1/14", "terminate:step/2/7", "kill:trained/6"]
MORE = [
    "kill:begun/0",
    "kill:step/0/0",
    "kill:step/0/21",
    "kill:begun/1",
    "kill:step/2/39",
    "kill:trained/2",
    "kill:noted/3",
    "terminate:step/4/10",
    "kill:begun/5",
    "kill:noted/6",
    "kill:verdict",
]


def searched(arguments, places, scratch):
    """The ends of the processes that it took."""
    reached, ends = scratch / "reached", []
    reached.touch()
    while len(ends) <= len(places):
        command = [sys.executable, "-m", "tests.tuning.tuning_child", str(reached), ",".join(places), *arguments]
        done = forked.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        ends.append(done)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode in (0, 1, 2, 3):
            break
    assert sorted(reached.read_text().split()) == sorted(places)
    return ends


@pytest.mark.parametrize("places", [PLACES, pytest.param(MORE, marks=pytest.mark.slow)], ids=["three", "more"])
def test_no_kill_changes_the_verdict(places, left_alone, tmp_path):
    """Killed where nothing but the database knows of a trial, within a training, behind it, before the verdict."""
    folder = tmp_path / "search"
    arguments = ["tune", str(RECIPE), "--run-dir", str(folder)]
    ends = searched(arguments, places, tmp_path)
    assert [done.returncode for done in ends] == [-9 if p.startswith("kill") else app.INTERRUPTED for p in places] + [3]
    for place, done in zip(places, ends, strict=False):
        if place.startswith("terminate"):
            trial, step = place.split("/")[1:]
            assert done.stderr.splitlines()[-1] == (
                f"suite tune: interrupted at step {int(step) + 1} of trial {trial}; "
                f"go on with: suite {' '.join(arguments)}"
            )
    assert told(folder) == told(left_alone[0])
    assert ends[-1].stdout.splitlines()[1:-1] == left_alone[1].stdout.splitlines()[1:-1]


@pytest.mark.slow
def test_killed_at_random_moments(left_alone, tmp_path):
    """By a clock, wherever that hits, with five searches of their own."""
    rng = np.random.default_rng(0)
    for number in range(5):
        folder, kills = tmp_path / str(number), 0
        command = [sys.executable, "-m", "suite", "tune", str(RECIPE), "--run-dir", str(folder)]
        while True:
            process = forked.process(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                _, printed = process.communicate(timeout=float(rng.uniform(1, 5)) if kills < 5 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                continue
            assert process.returncode == 3 and "Traceback" not in printed, printed
            break
        print(f"\nsearch {number}: {kills} kills")
        assert told(folder) == told(left_alone[0])


def test_two_processes_share_a_search(tmp_path):
    folder = tmp_path / "search"
    command = [
        sys.executable,
        "-m",
        "suite",
        "tune",
        str(RECIPE),
        "--run-dir",
        str(folder),
        "--goal.budget.trials",
        "5",
        "--storage",
        f"sqlite:///{tmp_path / 'trials.db'}",
    ]
    pair = [
        forked.process(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in pair]
    assert [process.returncode for process in pair] == [3, 3], outputs
    assert outputs[0][0] == outputs[1][0] and "Traceback" not in outputs[0][1] + outputs[1][1]
    begun = [[line.split()[1] for line in printed.splitlines() if " of 5: " in line] for _, printed in outputs]
    assert all(begun) and sorted(begun[0] + begun[1]) == list("01234")
    verdict = told(folder)
    assert {trial["state"] for trial in verdict["trials"]} <= {"complete", "pruned"}
    assert not (folder / "study.db").exists()
    with pytest.raises(InputError) as error:
        suite.tune(replace(experiment(), {"goal.budget.trials": 5}), folder)
    assert str(error.value) == (
        'flag --storage: is "", but this search has its trials elsewhere.\n'
        f"  found: sqlite:///{tmp_path / 'trials.db'}\n  try:   the same --storage, or another --run-dir"
    )


def test_it_stops_at_the_goal(command, tmp_path, capsys):
    verdict = suite.tune(small(goal__at_least=0.1), tmp_path / "search")
    assert verdict.met and verdict.stopped_by == "goal" and len(verdict.trials) == 1
    assert verdict.margin == pytest.approx(verdict.validation["accuracy"] - 0.1)
    assert verdict.sentence.startswith(f"goal validation/accuracy >= 0.1: met, by {verdict.margin:.4g} (1 trial, ")
    assert "searched: optim.learning_rate: 0.002 to 0.05 (by factors)" in capsys.readouterr().err


def test_another_process_met_the_goal(tmp_path):
    """Then a trial in training is of no use, be it the first."""
    made = small(goal__at_least=0.9)
    search = tuning._begun(made, made.goal, space.dimensions(made), tmp_path / "search", "", False)
    assert [search.study.begin() for _ in range(2)] == [0, 1]
    search.study.end(1, "complete", 0.8, {})
    assert search.why_end(0) == ""
    search.study.begin()
    search.study.end(2, "complete", 0.95, {})
    assert search.why_end(0) == "trial 2 has met the goal"


def test_a_trial_that_ends_between_two_looks_is_not_taken_up(tmp_path):
    """Another process may end it and let it go after this one has read that it is running."""
    made = small()
    search = tuning._begun(made, made.goal, space.dimensions(made), tmp_path / "search", "", False)
    search.study.begin()
    seen = search.study.trials()
    search.study.end(0, "complete", 0.8, {})
    assert search._next(seen, "trials") is None
    with Claim.take(search.at(0)) as free:  # let go of
        assert free is not None
    search.study.begin()
    with search._next(search.study.trials(), "trials") as left:  # a process that died
        assert left.folder == search.at(1)


def test_it_stops_when_its_hours_are_spent(tmp_path):
    verdict = suite.tune(small(goal__budget=Budget(trials=9, hours=1e-9)), tmp_path / "search")
    assert (verdict.met, verdict.stopped_by, len(verdict.trials)) == (False, "hours", 1)
    assert 0 < verdict.trials[0]["seconds"] < 60 and "its time is spent" in verdict.sentence


def test_a_bound_that_is_not_to_be_passed(tmp_path):
    goal = Goal(metric="loss", at_most=9.0, budget=Budget(trials=2))
    verdict = suite.tune(small(goal=goal, train__best="-loss"), tmp_path / "search", keep_all=True)
    assert verdict.met and verdict.margin == pytest.approx(9.0 - verdict.validation["loss"])


# The test split


class Counted(Source):
    """Notes each read."""

    def __init__(self, source, split):
        self.source, self.split = source, split

    def __len__(self):
        return len(self.source)

    @property
    def schema(self):
        return self.source.schema

    def __getitem__(self, indices):
        reads.append((self.split, len(indices)))
        return self.source[indices]


@dataclass(frozen=True, kw_only=True)
class Watched(toy.Parity):
    """Notes each read of each split."""

    def source(self, split):
        reads.append((split, 0))
        return Counted(super().source(split), split)


reads: list[tuple[str, int]] = []


@pytest.mark.parametrize("on", ["validation", "test"])
def test_the_test_split_is_looked_at_once_and_last(on, tmp_path):
    reads.clear()
    made = small(task=Watched(), goal__on=on)
    verdict = suite.tune(made, tmp_path / "search")
    searched = len(reads)
    suite.tune(made, tmp_path / "search")
    looks = [place for place, (split, _) in enumerate(reads) if split == "test"]
    assert looks == list(range(searched - len(looks), searched)), "what came after it could have known of it"
    assert sum(count == 0 for split, count in reads if split == "test") == 1
    assert len(verdict.trials) == 2 and verdict.goal == f"{on}/accuracy >= 1.01"
    assert verdict.margin == pytest.approx((verdict.test if on == "test" else verdict.validation)["accuracy"] - 1.01)


@dataclass(frozen=True, kw_only=True)
class Withheld(toy.Parity):
    """There is no test split."""

    def source(self, split):
        if split == "test":
            raise InputError("split test", "has no labels")
        return super().source(split)


@pytest.mark.parametrize("on", ["validation", "test"])
def test_labels_that_are_withheld(on, tmp_path):
    verdict = suite.tune(small(task=Withheld(), goal__on=on, goal__at_least=0.1), tmp_path / "search")
    assert verdict.test is None and verdict.why_no_test == "split test: has no labels"
    assert str(verdict).splitlines()[-2] == "test: not measured: split test: has no labels"
    stored = told(tmp_path / "search")
    assert stored["test"] is None and stored["why_no_test"] == "split test: has no labels"
    assert verdict.met == (on == "validation")
    if on == "test":
        assert verdict.margin is None
        assert verdict.sentence.startswith("goal test/accuracy >= 0.1: not met, since it could not be measured (1 tr")


# What fails


def test_a_trial_that_fails_is_one_of_many(tmp_path, capsys):
    """Among these values are rates that end in numbers that are none, what is refused, and what no memory holds."""
    among = (
        Choice(field="optim.learning_rate", among=(1e-2, 1e30)),
        Choice(field="gradient.accumulate", among=(1, 3)),
        Choice(field="train.batch_size", among=(16, 3 * 10**12)),
    )
    made = small(search=Search(space=among, pruner="none"), goal__budget=Budget(trials=9))
    verdict = suite.tune(made, tmp_path / "search")
    assert {trial["state"] for trial in verdict.trials} == {"complete", "failed"} and verdict.trial == 0
    reasons = {trial["reason"] for trial in verdict.trials if trial["state"] == "failed"}
    assert {reason.split(":")[0] for reason in reasons} >= {"the loss is nan at step 4", "out of memory"}
    assert "field train.batch_size: 16 rows cannot be split evenly over 3 parts" in reasons
    number = next(trial["number"] for trial in verdict.trials if trial["reason"].startswith("the loss"))
    assert f"trial {number}: failed: the loss is nan at step 4 (" in capsys.readouterr().err


def test_the_same_values_are_trained_once(tmp_path, capsys):
    among = (Choice(field="optim.learning_rate", among=(1e-2, 1e-3)),)
    verdict = suite.tune(small(search=Search(space=among), goal__budget=Budget(trials=4)), tmp_path / "search")
    trained = {trial["number"] for trial in verdict.trials if trial["steps"]}
    assert len(trained) == 2 and len(list((tmp_path / "search").glob("trials/*/metrics.jsonl"))) == 2
    for trial in verdict.trials:
        alike = [other for other in verdict.trials if other["values"] == trial["values"]]
        assert {other["value"] for other in alike} == {trial["value"]}
        assert trial["number"] in trained or trial["reason"] == f"trial {alike[0]['number']} had these values"
    assert verdict.trial in trained


def test_values_that_are_always_refused(tmp_path):
    among = (Range(field="gradient.accumulate", low=17, high=10**6, whole=True),)
    with pytest.raises(RunError) as error:
        suite.tune(small(search=Search(space=among), goal__budget=Budget(trials=9)), tmp_path / "search")
    assert str(error.value).startswith("the values of 5 trials in a row were refused, the last with:\n")
    assert len(list((tmp_path / "search").glob("trials/*"))) == 6


def test_one_refused_trial_is_not_several_in_a_row(tmp_path):
    """Here the only one that has ended, since another process still has the first."""
    made = small(goal__budget=Budget(trials=9))
    search = tuning._begun(made, made.goal, space.dimensions(made), tmp_path / "search", "", False)
    assert [search.study.begin() for _ in range(6)] == list(range(6))
    for number in range(1, 5):
        search.study.end(number, "failed", None, {"reason": "refused", "refused": True})
        search._check_refused(InputError("field", "is refused."))
    search.study.end(5, "failed", None, {"reason": "refused", "refused": True})
    with pytest.raises(RunError, match="the values of 5 trials in a row were refused"):
        search._check_refused(InputError("field", "is refused."))


def test_a_database_that_is_lost(tmp_path, monkeypatch):
    from suite.tuning.study import Lost, Study

    def lost(self):
        raise Lost("the server is gone")

    monkeypatch.setattr(Study, "trials", lost)
    with pytest.raises(RunError) as error:
        suite.tune(small(), tmp_path / "search", storage=f"sqlite:///{tmp_path / 'trials.db'}")
    assert str(error.value) == (
        "the database of the trials failed: the server is gone\n  try:   once it is back: the "
        f"same command with --run-dir {tmp_path / 'search'}"
    )


def test_no_trial_comes_to_its_end(tmp_path):
    made = small(
        optim__learning_rate=1e30,
        goal__budget=Budget(trials=1),
        search=Search(space=(Range(field="optim.learning_rate", low=1e-3, high=1.0, log=True),)),
    )
    for _ in range(2):
        with pytest.raises(RunError, match=r"none of 1 trials came to its end\.\n  found: trial 0: "):
            suite.tune(made, tmp_path / "search")


# What is refused


def refusal(made, folder, **named):
    with pytest.raises(InputError) as error:
        suite.tune(made, folder, **named)
    return str(error.value)


def test_a_recipe_whose_own_values_are_refused(tmp_path):
    """And the corrected one may take the same folder."""
    assert refusal(small(gradient__accumulate=3), tmp_path / "search").startswith("field train.batch_size: ")
    assert not (tmp_path / "search").exists()
    assert refusal(small(goal__metric="r2"), tmp_path / "search").startswith(
        'field goal.metric: "r2" is no metric of this task.\n  found: accuracy, loss, '
    )
    assert not (tmp_path / "search").exists()


@dataclass(frozen=True, kw_only=True)
class Vanishing(toy.Parity):
    """Its training records are gone once it has been evaluated."""

    def encode(self, columns, rng=None):
        if rng is not None and evaluated:
            raise InputError("records", "are gone.")
        return super().encode(columns, rng)

    def score(self, outputs, batch, reference=None):
        if np.any(outputs["logits"]):  # which are 0 where only the metrics' names are asked for
            evaluated.append(True)
        return super().score(outputs, batch, reference)


evaluated: list[bool] = []


def test_what_was_trained_outlives_a_late_refusal(tmp_path, monkeypatch, capsys):
    evaluated.clear()
    made, folder = small(task=Vanishing(), train__steps=100, goal__budget=Budget(trials=1)), tmp_path / "search"
    assert refusal(made, folder) == "records: are gone."
    trial = folder / "trials" / "0000"
    assert any(trial.glob("checkpoints/[1-9]*"))
    evaluated.clear()
    monkeypatch.setattr(Vanishing, "encode", toy.Parity.encode)
    suite.tune(made, folder)
    assert capsys.readouterr().err.count("step 10: ") == 1, "it went on from there"


def test_what_is_no_goal(tmp_path):
    assert refusal(toy.experiment(best=""), tmp_path / "search") == (
        "field goal: is None, and train.best names no metric by which trials could be compared.\n"
        '  try:   --goal "accuracy>=0.9"'
    )
    assert refusal(small(goal__on="dev"), tmp_path / "search") == (
        'field goal.on: "dev" is no split that a verdict is on.\n  found: validation, test'
    )
    assert refusal(small(goal__budget=Budget(trials=0)), tmp_path / "search") == (
        "field goal.budget.trials: 0 is no number from 1; 0, which is no limit, needs hours.\n"
        "  try:   --goal.budget.trials 20"
    )
    assert refusal(small(search__pruner="medan"), tmp_path / "search") == (
        'field search.pruner: "medan" is unknown.\n  found: median, hyperband, none\n  try:   median'
    )
    assert refusal(small(search__seed=-1), tmp_path / "search") == (
        "field search.seed: -1 is no number from 0.\n  try:   --search.seed 0"
    )
    assert not (tmp_path / "search").exists()


def test_folders_of_others(tmp_path, left_alone):
    folder = left_alone[0]
    other = replace(experiment(), {"optim.learning_rate": 2e-2, "train.seed": 3})
    assert refusal(other, folder) == (
        f'--run-dir "{folder}": holds the search of another recipe.\n'
        "  found: optim.learning_rate 0.01 there, 0.02 here; train.seed 0 there, 3 here\n"
        "  try:   the same fields, or another --run-dir"
    )
    assert refusal(replace(experiment(), {"goal.budget.trials": 30}), folder) == (
        f'--run-dir "{folder}": holds the search of another recipe.\n'
        "  found: goal.budget.trials 7 there, 30 here\n  try:   the same fields, or another --run-dir"
    ), "a verdict is final: its test split was looked at"
    run = folder / "trials" / "0000"
    assert refusal(experiment(), run) == f'--run-dir "{run}": is the folder of a run.\n  try:   --run-dir {unused(run)}'
    (tmp_path / "notes.txt").write_text("mine")
    assert refusal(experiment(), tmp_path) == (
        f'--run-dir "{tmp_path}": holds something else.\n  found: notes.txt\n  try:   --run-dir {unused(tmp_path)}'
    )
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_chosen_run_that_is_gone(tmp_path):
    verdict = suite.tune(small(goal__at_least=0.1), tmp_path / "search")
    shutil.rmtree(verdict.run.folder)
    assert refusal(small(goal__at_least=0.1), tmp_path / "search") == (
        f'run folder "{verdict.run.folder}": was chosen by a search, and is gone.\n'
        "  try:   put it back, or another --run-dir"
    )


def test_a_search_without_a_verdict_may_be_given_another_budget(tmp_path):
    (tmp_path / "search").mkdir()
    recipe.claim(tmp_path / "search", small(), "", decided=False)
    verdict = suite.tune(small(goal__budget=Budget(trials=1)), tmp_path / "search")
    assert len(verdict.trials) == 1


def test_optuna_is_missing(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "suite.tuning.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert refusal(small(), tmp_path / "search") == (
        f"package optuna: is needed to choose what to try next, and not installed.\n  try:   {install('tune')}"
    )
    assert not (tmp_path / "search").exists()
