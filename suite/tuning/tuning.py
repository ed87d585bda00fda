"""The goal loop: train, look, and train again with other settings, until the goal is met or the budget is spent.

All that is known lies on the disk: the recipe, the trials in a database, each trial's training in a run folder of its
own. So a search that was stopped anywhere goes on when it is called again, and several processes may work on one.
"""

import dataclasses
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from suite.contracts.metric_meaning import better, check_selection
from suite.distribution import missing
from suite.errors import InputError, Interrupted, RunError, closest, first_line, unused
from suite.experiment.defaults import settled
from suite.experiment.goal import Budget, Goal
from suite.experiment.goal import Search as SearchSpace
from suite.experiment.sections import Experiment
from suite.runs import results
from suite.runtime import locks
from suite.training import fingerprint
from suite.training.logging.jsonl import history
from suite.training.preemption import stopped_by_sigterm
from suite.tuning import recipe, space, verdict
from suite.tuning.search import Search, say
from suite.tuning.space import Dimension
from suite.tuning.verdict import Verdict

PRUNERS = get_args(get_type_hints(SearchSpace)["pruner"])


def tune(
    experiment: Experiment,
    run_dir: str | Path = "",
    *,
    goal: Goal | None = None,
    budget: Budget | None = None,
    storage: str = "",
    keep_all: bool = False,
    accept_changed_data: bool = False,
) -> Verdict:
    """Train an experiment, first as it is and then with other settings, until it meets its goal or its budget is spent.
    Without a goal the best that the budget allows, by the metric that chooses checkpoints, is what is sought.

    Args:
        experiment: the recipe; ``goal`` says what to reach and at which cost, ``search`` what may change.
        run_dir: the folder of the search, by default ``runs/<date>-<name>-tune``. One that holds a search of this
            recipe goes on, or returns the verdict that it has.
        goal: instead of the recipe's own, as ``Goal("accuracy>=0.9")``.
        budget: instead of the goal's own, as ``Budget("20m")``.
        storage: the address of a database, for many processes that share ``run_dir``; by default a file there.
        keep_all: keep the checkpoints of all trials, and not of the best alone.
        accept_changed_data: go on with other data than the search was begun with, which is refused otherwise.

    Raises:
        InputError: the goal or the space doesn't fit the recipe, the folder holds another search, or the data are not
            those that it was begun with.
        Interrupted: it was asked to stop; the same call goes on.
        RunError: no trial came to an end, or the database is lost.
    """
    experiment = aimed(experiment, goal, budget)
    folder = Path(run_dir) if run_dir else results.new_folder(f"{experiment.name}-tune")
    experiment = _settled(experiment, folder)
    goal, dimensions = check(experiment)
    from suite.tuning.study import Lost

    fresh = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    again = f"suite tune {shlex.quote(experiment.name)} --run-dir {shlex.quote(str(folder))}"
    try:
        with stopped_by_sigterm():
            search = _begun(experiment, goal, dimensions, folder, storage, keep_all, accept_changed_data)
            return search if isinstance(search, Verdict) else search.conclude()
    except Interrupted as stopped:
        raise stopped.within(folder, again, of=f"trial {int(stopped.folder.name)}") from None
    except KeyboardInterrupt:
        raise Interrupted(folder, None, None, again=again) from None
    except Lost as error:
        reason = first_line(error.__cause__ or error)
        how = f"once it is back: the same command with --run-dir {folder}"
        raise RunError(f"the database of the trials failed: {reason}\n  try:   {how}") from None
    except InputError:
        if fresh and _nothing_done(folder, goal):  # so that the corrected command finds no search there
            shutil.rmtree(folder, ignore_errors=True)
        raise


def begun(experiment: Experiment, run_dir: str | Path, *, accept_changed_data: bool = False) -> Search:
    """A search in a folder, begun or gone on with, whose trials the caller asks for one by one: `Search.advance`. All
    of them keep their checkpoints.

    Args, Raises: as of `tune`; the experiment has its goal.
    """
    experiment = _settled(experiment, Path(run_dir))
    goal, dimensions = check(experiment)
    search = _begun(experiment, goal, dimensions, Path(run_dir), "", True, accept_changed_data)
    if isinstance(search, Verdict):
        raise InputError(f'--run-dir "{run_dir}"', "holds a search that has ended.", fix=f"--run-dir {unused(run_dir)}")
    return search


def aimed(experiment: Experiment, goal: Goal | None = None, budget: Budget | None = None) -> Experiment:
    """The experiment with a goal: the one given, its own, or the best by the metric that chooses its checkpoints.

    Raises:
        InputError: it has none of these.
    """
    best = experiment.train.best
    aim = goal or experiment.goal or (Goal(metric=best, at_least=None) if best else None)
    if aim is None:
        raise InputError(
            "field goal",
            "is None, and train.best names no metric by which trials could be compared.",
            fix='--goal "accuracy>=0.9"',
        )
    if goal is not None and experiment.goal is not None:
        aim = dataclasses.replace(aim, budget=experiment.goal.budget if goal.budget == Budget() else goal.budget)
    return dataclasses.replace(experiment, goal=aim if budget is None else dataclasses.replace(aim, budget=budget))


def _settled(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with its open fields chosen, so that trials differ in nothing else than in what is searched; from
    the search in ``folder``, where the data have gone.

    Raises:
        InputError: the data cannot be opened, and no search has begun.
    """
    if experiment.defaults is None:
        return experiment
    try:
        chosen, lines = settled(experiment, experiment.task.source("train"))
    except InputError:
        stored = recipe.stored(folder, experiment)
        if stored is None:
            raise
        return dataclasses.replace(stored, goal=experiment.goal, callbacks=experiment.callbacks)
    for line in lines:
        say(line)
    return chosen


def check(experiment: Experiment) -> tuple[Goal, Sequence[Dimension]]:
    """The goal of a recipe that can be searched, and what is searched.

    Raises:
        InputError: the goal or the space doesn't fit the recipe, or Optuna is not installed.
    """
    goal, search = experiment.goal, experiment.search
    assert goal is not None, "see aimed"
    _check_direction(goal)
    if goal.on not in ("validation", "test"):
        raise InputError("field goal.on", f'"{goal.on}" is no split that a verdict is on.', found="validation, test")
    if goal.budget.trials < (0 if goal.budget.hours > 0 else 1):
        problem = f"{goal.budget.trials} is no number from 1; 0, which is no limit, needs hours."
        raise InputError("field goal.budget.trials", problem, fix="--goal.budget.trials 20")
    if search.pruner not in PRUNERS:
        raise InputError(
            "field search.pruner",
            f'"{search.pruner}" is unknown.',
            found=", ".join(PRUNERS),
            fix=closest(search.pruner, PRUNERS),
        )
    if search.seed < 0:
        raise InputError("field search.seed", f"{search.seed} is no number from 0.", fix="--search.seed 0")
    dimensions = space.dimensions(experiment)
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise missing("optuna", "to choose what to try next", "tune") from error
    return goal, dimensions


def _check_direction(goal: Goal) -> None:
    """Raises InputError where a bound is on the wrong side."""
    right = better(goal.metric)
    if goal.open:
        check_selection(goal.metric, "goal.metric")
    elif right in ("higher", "lower") and goal.lower != (right == "lower"):
        turned = f"{goal.metric}{'<=' if right == 'lower' else '>='}{goal.bound:g}"
        raise InputError(
            "field goal", f"{right} {goal.metric} is better.", found=str(goal), fix=f"--goal {shlex.quote(turned)}"
        )


def _nothing_done(folder: Path, goal: Goal) -> bool:
    """Whether nothing would be lost with a search: no trial but the first was begun, and that one saved nothing, or was
    evaluated and found to have no such metric as the goal's."""
    if {path.name for path in folder.glob("trials/*")} - {"0000"}:
        return False
    logged = history(folder / "trials" / "0000")
    if any(name.startswith("validation/") for name in logged):
        return f"validation/{goal.name}" not in logged
    return not any(folder.glob("trials/*/checkpoints/[0-9]*"))


def _begun(
    experiment: Experiment,
    goal: Goal,
    dimensions: Sequence[Dimension],
    folder: Path,
    storage: str,
    keep_all: bool,
    accept_changed_data: bool = False,
) -> Search | Verdict:
    """The search in a folder, or the verdict that it has."""
    from suite.tuning import study

    folder.mkdir(parents=True, exist_ok=True)
    with locks.held(folder / "lock"):
        decided = (folder / verdict.VERDICT).exists()
        name = recipe.claim(folder, experiment, study.without_password(storage), decided=decided)
        _check_data(experiment, folder, decided, accept_changed_data)
        if outcome := verdict.read(folder, experiment, dimensions):
            return outcome
        trials = study.Study(study.storage_url(folder, storage), name, dimensions, goal, experiment.search)
    for part in dimensions:
        outside = "" if part.inside else f"; the recipe's own {part.own} lies outside, and only the first trial has it"
        say(f"searched: {part}{outside}")
    return Search(experiment, goal, folder, tuple(dimensions), trials, keep_all, accept_changed_data)


def _check_data(experiment: Experiment, folder: Path, decided: bool, accept: bool) -> None:
    """Trials are compared with each other, so all see the same data. A verdict is read where the data are gone, too."""
    try:
        data = {split: experiment.task.source(split) for split in ("train", "validation")}
    except InputError as error:
        if not decided:
            raise
        say(f"whether the data changed is not checked: {error.where} {error.problem}")
        return
    fingerprint.check(
        folder,
        fingerprint.fingerprint(experiment.task, data),
        begun=any(folder.glob("trials/*")),
        accept=accept,
        say=say,
    )
