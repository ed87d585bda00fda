"""suite compare: runs on the same records side by side, and whether their differences are more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.contracts.metric_meaning import lower_is_better
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Interval, Scores, check_same_records, holm
from suite.reporting.configuration import differing, stored, written
from suite.reporting.evidence import read_json
from suite.runs import run as runs
from suite.runs.baselines import Comparison as Classical
from suite.runs.baselines import stored as stored_baseline
from suite.runs.run import Run

ALPHA = 0.05
"""Chance of calling a difference significant where there is none, over all comparisons of a metric."""


@dataclass(frozen=True)
class Compared:
    """One run.

    Attributes:
        run: opened.
        scores: of the split.
        values: metric -> value with its interval.
        seconds: of training; None where that is not known.
    """

    run: Run
    scores: Scores
    values: dict[str, Interval]
    seconds: float | None

    @property
    def name(self) -> str:
        """The folder, as it was given."""
        return str(self.run.folder)


@dataclass(frozen=True)
class Judged:
    """A difference from the run that others are compared with.

    Attributes:
        interval: less that run, on the same records.
        p: two-sided p-value, corrected for the number of runs.
    """

    interval: Difference
    p: float

    @property
    def significant(self) -> bool:
        return self.p < ALPHA


@dataclass(frozen=True)
class Comparison:
    """Runs on the same records of a split.

    Attributes:
        split: what all were evaluated on.
        runs: in the order in which they were given.
        against: the place of the one that others are compared with.
        differences: metric -> place of each other run -> its difference.
        baseline: classical models on the same records, as a run folder keeps them; None where none does.
        settings: field -> its value in each run, of fields that are not the same in all.
    """

    split: str
    runs: tuple[Compared, ...]
    against: int
    differences: dict[str, dict[int, Judged]]
    settings: dict[str, tuple[str, ...]]
    baseline: Classical | None = None

    @property
    def metrics(self) -> list[str]:
        """What all were measured by, the first deciding."""
        return list(self.differences)


def compare(
    folders: Sequence[str | Path],
    split: str = "",
    *,
    metric: str = "",
    against: Literal["first", "best"] = "first",
    allow: tuple[str, ...] = (),
) -> Comparison:
    """Evaluate runs on the same records and judge their differences by the paired bootstrap.

    Args:
        folders: run folders, two or more.
        split: what to evaluate; empty: the first run's goal's, else test.
        metric: what decides, and is put first; empty: the goal's, else the one that chose the checkpoint.
        against: what others are compared with: the first run, or the best by ``metric``.
        allow: packages whose classes the runs' experiments may name.

    Raises:
        InputError: fewer than two runs, other records or no common metric.
    """
    if len(folders) < 2:
        raise InputError(
            "runs", "are compared, and one is none.", found=f"{len(folders)} given", fix="suite compare RUN RUN"
        )
    opened = [runs.open(folder, allow) for folder in folders]
    goal = opened[0].experiment.goal
    split = split or (goal.on if goal else "test")
    check_same_records([(str(run.folder), run.experiment.task) for run in opened], split)
    scores = [run.scores(split) for run in opened]
    common = [name for name in scores[0].names if all(name in run_scores.names for run_scores in scores)]
    first = _deciding(metric, opened[0], common)
    metrics = [first, *(name for name in common if name != first)]
    compared = tuple(_compared(run, run_scores, metrics) for run, run_scores in zip(opened, scores, strict=True))
    place = _best(compared, first) if against == "best" else 0
    return Comparison(
        split,
        compared,
        place,
        {name: _judged(compared, place, name) for name in metrics},
        _settings([run.folder for run in opened]),
        next((known for run in opened if (known := stored_baseline(run.folder, split)) is not None), None),
    )


def _deciding(wanted: str, run: Run, common: Sequence[str]) -> str:
    if not common:
        raise InputError("runs", "have no metric in common.", fix="runs of the same task")
    if wanted and wanted not in common:
        raise InputError(f'--metric "{wanted}"', "is no metric of all these runs.", found=", ".join(common))
    goal = run.experiment.goal
    likely = (wanted, goal.name if goal else "", run.experiment.train.best.removeprefix("-"))
    return next((name for name in likely if name in common), common[0])


def _compared(run: Run, scores: Scores, metrics: Sequence[str]) -> Compared:
    seconds = read_json(run.folder / "result.json").get("trained", {}).get("seconds")
    return Compared(run, scores, {name: scores.interval(name) for name in metrics}, seconds)


def _best(compared: Sequence[Compared], metric: str) -> int:
    lower = lower_is_better(metric) or compared[0].run.experiment.train.best == f"-{metric}"
    sign = -1 if lower else 1
    return max(range(len(compared)), key=lambda place: sign * compared[place].values[metric].value)


def _judged(compared: Sequence[Compared], against: int, metric: str) -> dict[int, Judged]:
    others = [place for place in range(len(compared)) if place != against]
    differences = [compared[place].scores.minus(compared[against].scores, metric) for place in others]
    corrected = holm([difference.p for difference in differences])
    return {place: Judged(difference, p) for place, difference, p in zip(others, differences, corrected, strict=True)}


def _settings(folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    fields = [stored(folder) for folder in folders]
    return {name: tuple(written(values.get(name)) for values in fields) for name in differing(*fields)}
