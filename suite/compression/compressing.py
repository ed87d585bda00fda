"""suite compress: a run made smaller by one method, and measured again beside the run that it was made of."""

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite import config
from suite import run as runs
from suite.compression import verdict
from suite.compression.verdict import Measured
from suite.config import Experiment
from suite.errors import InputError, Interrupted
from suite.run import Run


class Method(ABC):
    """One way to make a model smaller: a frozen dataclass of what its flag says. Its other settings are fields of the
    experiment that is made, which flags may change."""

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


def compress(run: Run | str | Path, method: Method, run_dir: str | Path = "", *, experiment: Experiment | None = None,
             split: str = "", max_drop: float | None = None, resume: bool = False,
             allow: tuple[str, ...] = ()) -> Run:  # fmt: skip
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
        InputError: the run cannot be made smaller in this way, or the folder already holds a run and ``resume`` is
            False.
        Interrupted: training was asked to stop; ``resume`` goes on.
    """
    begun = time.perf_counter()
    run = run if isinstance(run, Run) else runs.open(run, allow)
    experiment = method.start(run) if experiment is None else experiment
    name = method.name(experiment)
    before = verdict.measured(run, split)  # a wrong split is refused before anything is made
    verdict.ruler(run.experiment, before.scores)
    folder = Path(run_dir) if run_dir else runs.new_folder(f"{run.experiment.name}-{name.replace(' ', '-')}")
    fresh = not folder.exists()
    if config.is_run(folder) and not resume:
        raise InputError(f'--run-dir "{folder}"', "already holds a run.", fix="--continue, or another --run-dir")
    try:
        method.make(run, experiment, folder)
    except Interrupted as stopped:
        again = f"the same command with --run-dir {folder} --continue"
        raise Interrupted(folder, stopped.step, stopped.saved, again=again) from None
    except InputError:
        if fresh:  # so that the corrected command finds no run there
            shutil.rmtree(folder, ignore_errors=True)
        raise
    allow = (*allow, *_packages(config.to_json(run.experiment)), *_packages(config.to_json(experiment)))
    made = runs.open(folder, allow)
    after = verdict.measured(made, before.split)
    found = {**verdict.compare(before, after, name, max_drop), **method.besides(before, after, allow)}
    config.write_text(folder / verdict.FILE, json.dumps(found, indent=1) + "\n")
    metrics = {f"{before.split}/{metric}": value for metric, value in after.scores.values().items()}
    seconds = time.perf_counter() - begun
    runs.write_result(folder, "compress", made.experiment.name, metrics, seconds, len(after.scores) / seconds)
    return replace(made, metrics=metrics)


def _packages(value: Any) -> Iterator[str]:
    """Packages of the classes in a stored experiment: they were allowed when it was opened."""
    if isinstance(value, list):
        for item in value:
            yield from _packages(item)
    elif isinstance(value, dict):
        yield str(value["class"]).split(".")[0]
        for item in value.values():
            yield from _packages(item)
