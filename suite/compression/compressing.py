"""suite compress: a run made smaller by one method, and measured again beside the run that it was made of."""

import json
import shutil
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite.compression import verdict
from suite.compression.verdict import Measured
from suite.errors import InputError, Interrupted, unused
from suite.evaluation.bootstrap import check_same_records
from suite.experiment import serialization
from suite.experiment.sections import Experiment
from suite.runs import results
from suite.runs.run import Run
from suite.runs.run import open as open_run
from suite.runtime import allocation, files, locks
from suite.training.preemption import stopped_by_sigterm
from suite.training.preprocessors import unbind


class Method(ABC):
    """One way to make a model smaller: a frozen dataclass of what its flag says. Its other settings are fields of the
    experiment that is made, which flags may change."""

    def check(self) -> None:
        """To be called before a run is trained that this is meant for.

        Raises:
            InputError: it can make no run smaller, whatever run that is.
        """
        return

    @abstractmethod
    def start(self, run: Run) -> Experiment:
        """The experiment of what will be made of ``run``, before flags change it; bound or not.

        Raises:
            InputError: the run cannot be made smaller in this way.
        """

    @abstractmethod
    def name(self, experiment: Experiment) -> str:
        """What the verdict calls it, such as "int8"; ``experiment`` is what `make` is given."""

    @abstractmethod
    def make(self, run: Run, experiment: Experiment, folder: Path) -> None:
        """Make the run in ``folder``, training it where that is part of the method.

        Called again on a folder that a kill or an interruption left, it goes on from there.
        """

    def besides(self, before: Measured, after: Measured, allow: tuple[str, ...]) -> dict[str, Any]:
        """What the verdict says besides, of the run and of what was made of it."""
        return {}


def compress(
    run: Run | str | Path,
    method: Method,
    run_dir: str | Path = "",
    *,
    experiment: Experiment | None = None,
    split: str = "",
    max_drop: float | None = None,
    resume: bool = False,
    allow: tuple[str, ...] = (),
) -> Run:
    """Make a run smaller, evaluate both on the same records, and write ``compression.json`` into the new run folder.

    Args:
        run: what is made smaller, or its folder.
        method: how, e.g. ``suite.Quantize("int8")``.
        run_dir: the new run folder; by default ``runs/<date>-<name>-<method>``, numbered when taken.
        experiment: ``method.start(run)`` with fields changed; None: as it is.
        split: where both are evaluated; empty: where the goal is, else validation.
        max_drop: loss of the metric that the verdict allows; None: any.
        resume: go on in ``run_dir`` with what a kill or an interruption left there.
        allow: packages whose classes the run's experiment may name.

    Returns:
        The new run; its metrics are those of ``split``. `suite.compression.verdict.read` gives the verdict.

    Raises:
        InputError: the run cannot be made smaller in this way, what is made of it would be evaluated on other records,
            the folder already holds a run and ``resume`` is False, or another process writes there.
        Interrupted: it was asked to stop; ``resume`` goes on.
    """
    allocation.keep_memory()
    run = run if isinstance(run, Run) else open_run(run, allow)
    experiment = method.start(run) if experiment is None else experiment
    name = method.name(experiment)
    folder = Path(run_dir) if run_dir else results.new_folder(f"{run.experiment.name}-{name.replace(' ', '-')}")
    if files.is_run(folder) and not resume:
        raise InputError(f'--run-dir "{folder}"', "already holds a run.", fix=f"--run-dir {unused(folder)}")
    again = f"the same command with --run-dir {folder} --continue"
    try:
        with stopped_by_sigterm():
            # What cannot be compared is refused before anything is made.
            before = verdict.measured(run, split)
            verdict.ruler(run.experiment, before.scores)
            _check_same_records(run, experiment, before.split)
            fresh = not folder.exists()
            with locks.writing(folder):
                _make(run, method, experiment, folder, fresh)
                return _judged(before, method, experiment, folder, max_drop, allow)
    except Interrupted as stopped:
        raise stopped.within(folder, again) from None
    except KeyboardInterrupt:
        raise Interrupted(folder, None, None, again=again) from None


def _check_same_records(run: Run, experiment: Experiment, split: str) -> None:
    """InputError where what will be made of the run is evaluated on other records, as a student's recipe may say."""
    tasks = [unbind(recipe).task for recipe in (run.experiment, experiment)]
    if tasks[0] != tasks[1]:
        check_same_records([(str(run.folder), tasks[0]), (experiment.name, tasks[1])], split)


def _make(run: Run, method: Method, experiment: Experiment, folder: Path, fresh: bool) -> None:
    try:
        method.make(run, experiment, folder)
    except InputError:
        # So that the corrected command finds no run there; but what was trained is gone on with.
        if fresh and not files.is_run(folder) and not any(folder.rglob("checkpoints/[1-9]*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _judged(
    before: Measured,
    method: Method,
    experiment: Experiment,
    folder: Path,
    max_drop: float | None,
    allow: tuple[str, ...],
) -> Run:
    """The run in ``folder``, with the verdict on it written there."""
    allow = (*allow, *serialization.packages(before.run.experiment), *serialization.packages(experiment))
    compressed, begun = open_run(folder, allow), time.perf_counter()
    after = verdict.measured(compressed, before.split)
    seconds = time.perf_counter() - begun
    name = method.name(experiment)
    outcome = {**verdict.compare(before, after, name, max_drop), **method.besides(before, after, allow)}
    files.write_text(folder / verdict.FILE, json.dumps(outcome, indent=1) + "\n")
    metrics = {f"{before.split}/{metric}": value for metric, value in after.scores.values().items()}
    results.write_result(folder, "compress", compressed.experiment.name, metrics, seconds, len(after.scores) / seconds)
    return replace(compressed, metrics=metrics)
