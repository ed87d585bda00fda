"""suite train: an experiment trained, or a run gone on with."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli.fields import apply_flags, typed_fields
from suite.cli.flags import Verb, flag, is_flag, word
from suite.cli.shared_flags import Allowing, OfExperiment, Together, folder_named
from suite.errors import InputError

if TYPE_CHECKING:
    from suite.experiment.sections import Experiment


@dataclass(frozen=True, kw_only=True)
class Train(OfExperiment, Allowing, Together):
    """Trains an experiment, or goes on with an interrupted run."""

    verb = "train"
    examples = (
        "suite train text.classify --data reviews.csv --task.text review --run-dir runs/reviews",
        "suite train vision.classify --data photos/ --train.epochs 5 --optim.learning_rate 1e-3",
        "suite train --resume runs/reviews",
    )

    experiment: str = word("EXPERIMENT", example="text.classify", fix="suite list", default="")
    """Name of a recipe that suite list prints, or a .py file with experiment()."""
    run_dir: str = flag("", value="DIR", example="runs/reviews", otherwise="runs/NAME-TIME")
    """Folder that the run is written to."""
    continue_: bool = flag(False)
    """Go on with the run in --run-dir where it has begun, else begin it: one command for a scheduler that restarts."""
    resume: str = flag("", value="RUN", example="runs/reviews", otherwise="a new run")
    """Go on with this run as it is stored; only --parallel.AXIS may be changed."""
    accept_changed_data: bool = flag(False, otherwise="changed data are refused")
    """Go on with other data than the run was begun with."""


def train(given: Train) -> None:
    from suite.parallel import rendezvous

    with rendezvous.joined(rendezvous.find_place(given.place)):
        print_run(_trained(given))


def _trained(given: Train) -> Any:
    from suite.parallel import hosts
    from suite.runs import verbs
    from suite.runtime.files import is_run

    if given.resume:
        _, others = _parallel_flags(given.fields)
        if given.experiment or others:
            raise InputError(
                "flag --resume",
                "takes the experiment as it is stored, but for --parallel.",
                found=" ".join([given.experiment, *others]).strip(),
                fix=f"suite train --resume {shlex.quote(given.resume)}",
            )
        return _resumed(given.resume, given)
    if not given.experiment:
        raise InputError("EXPERIMENT", "is missing.", fix="suite list")
    experiment = given.resolved()
    if not given.continue_:
        return verbs.train(experiment, given.run_dir)
    folder_named(given.run_dir, given)
    if not hosts.agreed(lambda: is_run(given.run_dir)):
        return verbs.train(experiment, given.run_dir)
    _check_as_begun(given, experiment)
    return _resumed(given.run_dir, given)


def _check_as_begun(given: Train, asked: "Experiment") -> None:
    """InputError where the recipe, the data or a typed flag are other than the run was begun with. What the run chose
    itself, or left out of the recipe, is its own."""
    from suite.experiment.defaults import is_open
    from suite.experiment.predicted import target_field
    from suite.experiment.serialization import to_json
    from suite.runs import verbs
    from suite.tuning.recipe import differences

    stored = verbs.stored(given.run_dir, given.allowed)
    if stored.name != asked.name:
        changed = {"name": (stored.name, asked.name)}
    else:
        typed = typed_fields(_parallel_flags(given.fields)[1])
        if given.target:
            typed.append(f"task.{target_field(asked)}")
        if given.data and Path(given.data) != Path(getattr(stored.task.data, "path", given.data)):
            typed.append("task.data.path")
        pairs = differences(to_json(stored), to_json(asked))
        left_open = lambda now: asked.defaults is not None and is_open(now)  # the run has chosen one
        changed = {
            name: pair
            for name, pair in pairs.items()
            if any(f"{name}.".startswith(f"{one}.") for one in typed) and not left_open(pair[1])
        }
    if changed:
        raise InputError(
            "flag --continue",
            "goes on with the run as it was begun, and these are other values.",
            found="; ".join(f"{field} was {before!r:.40}, now {now!r:.40}" for field, (before, now) in changed.items()),
            fix=f"suite train --resume {shlex.quote(given.run_dir)}",
        )


def _resumed(folder: str, given: Train) -> Any:
    """The run goes on with its stored experiment, on the mesh that the flags name, if they do."""
    from suite.runs import verbs

    flags, _ = _parallel_flags(given.fields)
    if not flags:
        return verbs.resume(folder, given.allowed, accept_changed_data=given.accept_changed_data)
    changed = apply_flags(verbs.stored(folder, given.allowed), flags, f"suite train --resume {folder}")
    return verbs.resume(folder, given.allowed, parallel=changed.parallel, accept_changed_data=given.accept_changed_data)


def _parallel_flags(fields: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """``--parallel.AXIS`` flags with their values, and everything else."""
    parallel: list[str] = []
    others: list[str] = []
    chosen = others
    for item in fields:
        if is_flag(item):
            chosen = parallel if item.startswith("--parallel.") else others
        chosen.append(item)
    return parallel, others


def print_run(run: Any) -> None:
    """Metrics, data, goal and folder of a run, printed by the first process."""
    from suite.parallel import hosts

    if not hosts.is_first():
        return
    for name, value in run.metrics.items():
        print(f"{name:32} {value:.6g}")
    origin = run.experiment.task.data.origin
    if origin:
        print(f"data: {origin}")
    goal = run.experiment.goal
    reached = run.metrics.get(f"{goal.on}/{goal.metric}") if goal else None
    if goal and reached is not None and not goal.open:
        print(f"goal {goal}: {'met' if goal.met(reached) else 'not met'}")
    print(run.folder)


VERB = Verb(Train, train)
