"""Ranking: what was tried, by the metric that decides, with intervals and the paired difference to the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from suite.contracts.metric_meaning import better
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Interval, Scores, holm
from suite.fitting.leaderboard import SHOWN, Entry


@dataclass(frozen=True)
class Tried:
    """One thing that was tried; fields as of `suite.fitting.leaderboard.Entry`.

    Attributes:
        scores: on the held-out records; None where it came to no end.
    """

    name: str
    kind: Literal["model", "baseline", "ensemble", "unfinished"]
    scores: Scores | None
    seconds: float
    folder: str = ""
    about: str = ""


def best(tried: Sequence[Tried], metric: str, lower: bool) -> Tried:
    """The best by a metric; of equal ones the first."""
    return min(tried, key=lambda one: _loss(one, metric, lower))


def _loss(one: Tried, metric: str, lower: bool) -> float:
    value = math.nan if one.scores is None else one.scores.values().get(metric, math.nan)
    return math.inf if math.isnan(value) else value if lower else -value


def metrics_shown(scores: Scores, metric: str) -> tuple[str, ...]:
    """The metric that decides, and the first other one that has a better way and is no loss."""
    others = (name for name in scores.names if name not in (metric, "loss") and better(name) in ("higher", "lower"))
    return (metric, *others)[:SHOWN]


def ranked(tried: Sequence[Tried], metric: str, lower: bool) -> tuple[Entry, ...]:
    """Entries, the best first; those that came to no end last."""
    order = sorted(tried, key=lambda one: _loss(one, metric, lower))
    first = order[0]
    names = (metric,) if first.scores is None else metrics_shown(first.scores, metric)
    entries = [_entry(one, names, None if one is first else first) for one in order]
    known = [entry.behind.p if entry.behind is not None else math.nan for entry in entries]
    return tuple(
        entry if entry.behind is None else replace(entry, behind=replace(entry.behind, p=p))
        for entry, p in zip(entries, holm(known), strict=True)
    )


def _entry(one: Tried, names: tuple[str, ...], first: Tried | None) -> Entry:
    metrics: dict[str, Interval] = {}
    behind: Difference | None = None
    if one.scores is not None:
        metrics = {name: one.scores.interval(name) for name in names if name in one.scores.names}
        if first is not None and first.scores is not None:
            try:
                behind = first.scores.minus(one.scores, names[0])
            except InputError:  # it was measured on other records
                behind = None
    return Entry(one.name, one.kind, metrics, round(one.seconds, 3), behind, one.folder, one.about)
