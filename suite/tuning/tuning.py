"""The goal loop: train, look, and train again with other settings, until the goal is met or the budget is spent.

All that is known lies on the disk: the recipe, the trials in a database, each trial's training in a run folder of its
own. So a search that was stopped anywhere goes on when it is called again, and several processes may work on one.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from suite.distribution import missing
from suite.errors import InputError, Interrupted, RunError, closest
from suite.experiment.goal import Goal
from suite.experiment.goal import Search as SearchSpace
from suite.experiment.sections import Experiment
from suite.runs import results
from suite.training.logging.jsonl import history
from suite.training.preemption import stopped_by_sigterm
from suite.tuning import locks, recipe, space, verdict
from suite.tuning.search import Search, say
from suite.tuning.space import Dimension
from suite.tuning.verdict import Verdict

PRUNERS = get_args(get_type_hints(SearchSpace)["pruner"])


def tune(experiment: Experiment, run_dir: str | Path = "", *, storage: str = "", keep_all: bool = False) -> Verdict:
    """Train an experiment, first as it is and then with other settings, until it meets its goal.

    Args:
        experiment: the recipe; ``goal`` says what to reach and at which cost, ``search`` what may change.
        run_dir: the folder of the search, by default ``runs/<date>-<name>-tune``. One that holds a search of this
            recipe goes on, or returns the verdict that it has.
        storage: the address of a database, for many processes that share ``run_dir``; by default a file there.
        keep_all: keep the checkpoints of all trials, and not of the best alone.

    Raises:
        InputError: there is no goal, the space doesn't fit the recipe, or the folder holds another search.
        Interrupted: it was asked to stop; the same call goes on.
        RunError: no trial came to an end, or the database is lost.
    """
    goal, dimensions = check(experiment)
    from suite.tuning.study import Lost

    folder = Path(run_dir) if run_dir else results.new_folder(f"{experiment.name}-tune")
    fresh = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    again = f"suite tune {experiment.name} --run-dir {folder}"
    try:
        with stopped_by_sigterm():
            search = _begun(experiment, goal, dimensions, folder, storage, keep_all)
            return search if isinstance(search, Verdict) else search.conclude()
    except Interrupted as stopped:
        raise stopped.within(folder, again, of=f"trial {int(stopped.folder.name)}") from None
    except KeyboardInterrupt:
        raise Interrupted(folder, None, None, again=again) from None
    except Lost as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        how = f"once it is back: the same command with --run-dir {folder}"
        raise RunError(f"the database of the trials failed: {reason}\n  try:   {how}") from None
    except InputError:
        if fresh and _nothing_done(folder, goal):  # so that the corrected command finds no search there
            shutil.rmtree(folder, ignore_errors=True)
        raise


def check(experiment: Experiment) -> tuple[Goal, Sequence[Dimension]]:
    """The goal of a recipe that can be searched, and what is searched.

    Raises:
        InputError: there is no goal, the space doesn't fit the recipe, or Optuna is not installed.
    """
    goal, search = experiment.goal, experiment.search
    if goal is None:
        raise InputError(
            "field goal",
            "is None, and a search needs one.",
            fix='goal=Goal(metric="accuracy", at_least=0.9) in the recipe',
        )
    if goal.on not in ("validation", "test"):
        raise InputError("field goal.on", f'"{goal.on}" is no split that a verdict is on.', found="validation, test")
    if goal.budget.trials < 1:
        raise InputError(
            "field goal.budget.trials", f"{goal.budget.trials} is no number from 1.", fix="--goal.budget.trials 20"
        )
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


def _nothing_done(folder: Path, goal: Goal) -> bool:
    """Whether nothing would be lost with a search: no trial but the first was begun, and that one saved nothing, or was
    evaluated and found to have no such metric as the goal's."""
    if {path.name for path in folder.glob("trials/*")} - {"0000"}:
        return False
    logged = history(folder / "trials" / "0000")
    if any(name.startswith("validation/") for name in logged):
        return f"validation/{goal.metric}" not in logged
    return not any(folder.glob("trials/*/checkpoints/[0-9]*"))


def _begun(
    experiment: Experiment, goal: Goal, dimensions: Sequence[Dimension], folder: Path, storage: str, keep_all: bool
) -> Search | Verdict:
    """The search in a folder, or the verdict that it has."""
    from suite.tuning import study

    folder.mkdir(parents=True, exist_ok=True)
    with locks.held(folder / "lock"):
        decided = (folder / verdict.VERDICT).exists()
        name = recipe.claim(folder, experiment, study.without_password(storage), decided=decided)
        if outcome := verdict.read(folder, experiment, dimensions):
            return outcome
        trials = study.Study(study.storage_url(folder, storage), name, dimensions, goal, experiment.search)
    for part in dimensions:
        outside = "" if part.inside else f"; the recipe's own {part.own} lies outside, and only the first trial has it"
        say(f"searched: {part}{outside}")
    return Search(experiment, goal, folder, tuple(dimensions), trials, keep_all)
