"""The run that a fit keeps: copied to a folder of its own, and measured once on the test split."""

import dataclasses
import shutil
from pathlib import Path

from suite.fitting.leaderboard import Leaderboard
from suite.runs.baselines import baseline
from suite.runs.run import Run
from suite.runtime import locks


def with_test(board: Leaderboard, chosen: Run, compared: bool) -> Leaderboard:
    """With the metrics of the chosen run on the test split, and the strongest baseline beside it."""
    if not compared:
        scores = chosen.scores("test")
        return dataclasses.replace(board, test={name: scores.interval(name) for name in scores.names})
    beside = baseline(chosen, "test")
    strongest = beside.strongest
    return dataclasses.replace(
        board, test=beside.model, baseline=strongest.metrics, baseline_name=strongest.name, ahead=strongest.differences
    )


def copy(source: Path, target: Path) -> None:
    """A run folder, copied as a whole."""
    partial = target.with_name(f"partial-{target.name}")
    for path in (partial, target):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(locks.CLAIM))
    partial.rename(target)
