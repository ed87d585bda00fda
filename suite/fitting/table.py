"""The leaderboard as lines for a terminal and as rows for a report."""

import shlex
from pathlib import Path

from suite.evaluation.bootstrap import Interval
from suite.fitting.leaderboard import ALPHA, Entry, Leaderboard
from suite.tuning.verdict import lasted


def head(board: Leaderboard) -> tuple[str, ...]:
    """Titles of the columns."""
    return ("", "tried", *metrics(board), "behind the best", "time", "settings")


def metrics(board: Leaderboard) -> tuple[str, ...]:
    """Metrics that the table has, the one that decides first."""
    return tuple(dict.fromkeys(name for entry in board.entries for name in entry.metrics))


def rows(board: Leaderboard) -> list[tuple[str, ...]]:
    """A row for each entry, the best first."""
    return [
        (
            str(place) if entry.metrics else "",
            entry.name + (" *" if entry.name == board.chosen else ""),
            *(_value(entry, name) for name in metrics(board)),
            _behind(entry, place == 1),
            lasted(entry.seconds),
            entry.about,
        )
        for place, entry in enumerate(board.entries, 1)
    ]


def _value(entry: Entry, metric: str) -> str:
    return str(entry.metrics[metric]) if metric in entry.metrics else "-"


def _behind(entry: Entry, first: bool) -> str:
    if first or not entry.metrics:
        return ""
    if entry.behind is None:
        return "other records"
    chance = "" if entry.behind.p < ALPHA else ", may be chance"
    return f"{abs(entry.behind.value):.4g}{chance}" if entry.behind.known else f"{abs(entry.behind.value):.4g}"


def lines(board: Leaderboard, folder: str | Path) -> list[str]:
    """All that a person should know, for a terminal."""
    table = [head(board), *rows(board)]
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    way = "lower" if board.lower else "higher"
    said = [f"{board.target} by {board.metric} ({way} is better) on {board.records:,} records of {board.split}"]
    said += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    said.append(f"* kept: {board.chosen}, since {board.why}")
    first = board.entries[0]
    if first.kind == "baseline":
        said.append(
            f"{first.name} is better on {board.split}{_how_sure(board)}; the kept model is a network all the same"
        )
    said += _tested(board)
    of = f" of {lasted(board.budget)}" if board.budget else ""
    best = Path(folder) / board.best
    return [
        *said,
        f"{lasted(board.seconds)} spent{of}",
        f"suite export {shlex.quote(str(best))} --to bundles/mine",
        str(best),
    ]


def _how_sure(board: Leaderboard) -> str:
    behind = next(entry for entry in board.entries if entry.name == board.chosen).behind
    if behind is None:
        return ", but on other records"
    return ", which may be chance" if behind.known and behind.p >= ALPHA else ""


def _tested(board: Leaderboard) -> list[str]:
    if not board.test:
        return [f"test: not measured: {board.why_no_test}"]
    named: list[tuple[str, Interval]] = list(board.test.items())
    said = [f"test/{name:27} {interval}" for name, interval in named]
    if board.baseline_name and board.metric in board.baseline:
        ahead = board.ahead.get(board.metric)
        by = f"; the kept model less it: {ahead}" if ahead is not None else ""
        said.append(f"test, {board.baseline_name}: {board.metric} {board.baseline[board.metric]}{by}")
    return said
