"""Leaderboard: everything that was tried on some records, ranked on the validation split, with what it cost."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from suite.evaluation.bootstrap import Difference, Interval
from suite.runtime import files, json_files

FILE = "leaderboard.json"
ALPHA = 0.05
"""Chance of calling a difference significant where there is none."""
SHOWN = 2
"""Metrics of the printed table: the one that decides, and the first other one that says more."""


@dataclass(frozen=True)
class Entry:
    """One thing that was tried.

    Attributes:
        name: ``"table.predict"``, ``"table.predict, trial 3"``, ``"baseline: gradient boosting"``, ``"ensemble"``.
        kind: what it is.
        metrics: metric -> value with its interval; none where it came to no end.
        seconds: that its training took.
        behind: how far the best is ahead by the metric that decides, paired by record; None of the best, and where the
            records are others. Its p-value is corrected for the number of comparisons.
        folder: of its run, within that of the search; empty of a baseline.
        about: settings, what ended it early, what a baseline chose.
    """

    name: str
    kind: Literal["model", "baseline", "ensemble", "unfinished"]
    metrics: Mapping[str, Interval]
    seconds: float
    behind: Difference | None = None
    folder: str = ""
    about: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """What came of a fit.

    Attributes:
        target: the column that is predicted.
        metric: what decides.
        lower: whether less of it is better.
        split: what all were measured on, ``"validation"``; ``records`` of it.
        entries: the best first.
        chosen: name of the entry that was kept.
        why: why that one, a sentence.
        test: metric -> value of the chosen one on the test split, at which no decision looked; none where there is no
            such split.
        baseline: the same of the strongest baseline, whose name is ``baseline_name``.
        ahead: metric -> the chosen one less that baseline, on the test split.
        why_no_test: why there is none.
        seconds: spent, of ``budget`` seconds; 0: the budget names no time.
        best: run folder of the chosen one.
    """

    target: str
    metric: str
    lower: bool
    split: str
    records: int
    entries: tuple[Entry, ...]
    chosen: str
    why: str
    seconds: float
    budget: float
    best: str
    test: Mapping[str, Interval] = field(default_factory=dict)
    baseline: Mapping[str, Interval] = field(default_factory=dict)
    baseline_name: str = ""
    ahead: Mapping[str, Difference] = field(default_factory=dict)
    why_no_test: str = ""


def write(board: Leaderboard, folder: Path) -> None:
    """``leaderboard.json`` in a folder."""
    files.write_text(folder / FILE, json.dumps(dataclasses.asdict(board), indent=1) + "\n")


def read(folder: Path) -> Leaderboard | None:
    """The leaderboard of a folder; None where there is none that is whole."""
    try:
        stored = json_files.read_object(folder / FILE)
        entries = tuple(_entry(entry) for entry in stored["entries"])
        mappings = {name: _intervals(stored[name]) for name in ("test", "baseline")}
        ahead = {name: Difference(**about) for name, about in stored["ahead"].items()}
        return Leaderboard(**{**stored, "entries": entries, **mappings, "ahead": ahead})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _entry(stored: Mapping[str, Any]) -> Entry:
    behind = stored["behind"] and Difference(**stored["behind"])
    return Entry(**{**stored, "metrics": _intervals(stored["metrics"]), "behind": behind})


def _intervals(stored: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**about) for name, about in stored.items()}
