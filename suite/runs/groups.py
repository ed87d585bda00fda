"""Metrics by group: for whom a model is worse, by the values of a column, with intervals and corrected p-values."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.metric_meaning import better
from suite.data.preprocessing.tabular_values import texts
from suite.errors import InputError, closest
from suite.evaluation.bootstrap import Difference, Interval, Scores, holm
from suite.evaluation.wording import difference, ranged, term, way
from suite.runs.run import Run
from suite.runtime import files, json_files

FILE = "groups.json"
MOST = 20
"""Most groups, the largest; the values of other records are one group together."""
FEWEST = 20
"""Records below which a group is counted and not compared."""
RANGES = 4
"""Ranges of a column of many numbers, of equally many records each."""
LETTERS = 40
"""Most letters of a group's name that are shown."""
OTHERS, MISSING = "(others)", "(none)"
FEW = "too few records to compare"
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Group:
    """The records of one value of the column.

    Attributes:
        name: the value, or the range of it.
        records: how many.
        metrics: metric -> value with its interval; without those that its records do not have, such as the AUC of a
            group of one class.
        apart: metric -> its value less that of all other records; none of a small group. Its p is corrected for the
            number of groups (Holm).
    """

    name: str
    records: int
    metrics: dict[str, Interval]
    apart: dict[str, Difference]

    @property
    def shown(self) -> str:
        """The name on one line, cut where it is long, such as a list of captions."""
        name = " ".join(self.name.split())
        return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


@dataclass(frozen=True)
class Groups:
    """A split by the values of a column.

    Attributes:
        column: that parts the records.
        split: what was scored.
        metric: what decides: that which chooses the checkpoint, or where that is the loss, the first other one.
        groups: the largest first; ranges from the lowest on.
    """

    column: str
    split: str
    metric: str
    groups: tuple[Group, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A table of the metric that decides, its head first."""
        metric = self.metric
        rows: list[tuple[str, ...]] = [(self.column, "records", term(metric).title, "less the others")]
        small = [group for group in self.groups if group.records < FEWEST]
        for group in self.groups:
            if len(small) > 1 and group in small:
                continue
            gap = group.apart.get(metric)
            told = FEW if gap is None else difference(metric, gap)
            sure = " *" if gap is not None and gap.p < SIGNIFICANT else ""
            own = ranged(metric, group.metrics[metric]) if metric in group.metrics else "unknown"
            rows.append((group.shown, f"{group.records:,}", own, told + sure))
        if len(small) > 1:
            together = f"{sum(group.records for group in small):,}"
            rows.append((f"({len(small)} groups of fewer than {FEWEST})", together, "", FEW))
        return rows

    @property
    def lines(self) -> list[str]:
        """The table for a terminal, and what it says."""
        rows = self.rows
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [*lines, *self.verdict]

    @property
    def verdict(self) -> list[str]:
        """The largest gap of each metric, and for which groups the model is better or worse than chance explains."""
        lines = self._gap(self.metric)
        if not lines:
            return [f"fewer than two groups have {FEWEST} records: nothing is compared"]
        if len(lines) == 1:
            lines.append("no group differs from the others by more than chance explains")
        names = dict.fromkeys(name for group in self.groups for name in group.metrics if name != self.metric)
        lines += [line for name in names for line in self._gap(name)]
        return [*lines, "in brackets: 95 % intervals by the bootstrap; p is corrected for the number of groups (Holm)"]

    def _gap(self, metric: str) -> list[str]:
        """The largest gap of a metric, and groups that differ surely; nothing where fewer than two can be compared."""
        compared = [group for group in self.groups if metric in group.apart and metric in group.metrics]
        if len(compared) < 2:
            return []
        values = [(group.metrics[metric].value, group.shown) for group in compared]
        (least, low), (most, high) = min(values), max(values)
        span = Interval(most - least, math.nan, math.nan)
        lines = [f"largest gap of {term(metric).title}: {difference(metric, span)} from {low} to {high}"]
        for group in compared:
            gap = group.apart[metric]
            if gap.p < SIGNIFICANT:
                lines.append(f"* {way(metric, gap.value)} for {group.shown}, p {gap.p:.3f}")
        return lines


def by_group(run: Run, column: str, split: str = "test") -> Groups:
    """The metrics of a split by the values of a column, also kept in ``groups.json`` of the run folder.

    Args:
        run: whose model is measured.
        column: of its data, whether the model reads it or not. Of many numbers, `RANGES` ranges of them, unless the
            model takes them for the names of categories.
        split: train, validation or test.

    Raises:
        InputError: no such column, or no metric of the task splits by record.
    """
    source = run.experiment.task.source(split)
    if column not in source.schema:
        known = list(source.schema)
        raise InputError("flag --by", f'"{column}" is no column.', found=", ".join(known), fix=closest(column, known))
    scores = run.scores(split).sorted()
    names = [name for name in scores.rows if better(name) in ("higher", "lower")]
    if not names:
        raise InputError("flag --by", f"no metric of {type(run.experiment.task).__name__} splits by record.")
    chosen = run.experiment.train.best.removeprefix("-")
    plain = next((name for name in names if name != "loss"), names[0])
    metric = chosen if chosen in names and chosen != "loss" else plain
    values = source.column(column, scores.records)
    if classes := source.classes.get(column):
        values = [classes[place] for place in np.asarray(values).tolist()]
    kind = next((entry.kind for entry in run.codec.inputs if entry.name == column), "number")
    of, order = _ranges(texts(values)) if kind == "number" and not classes else ([], [])
    found = Groups(column, split, metric, _groups(scores, np.array(of or _named(values)), names, order))
    files.write_text(run.folder / FILE, json.dumps(dataclasses.asdict(found), indent=1) + "\n")
    return found


def _groups(scores: Scores, of: np.ndarray, names: list[str], order: Sequence[str] = ()) -> tuple[Group, ...]:
    """In the order of ``order``, or the largest first; ``of`` (n,) is the group of each record."""
    values, counts = np.unique(of, return_counts=True)
    sizes = dict(zip(values.tolist(), counts.tolist(), strict=True))
    falling = sorted(sizes, key=lambda name: (-sizes[name], name))
    parts = [(name, of == name) for name in ([name for name in order if name in sizes] or falling)]
    gaps: dict[str, list[Difference | None]] = {}
    for name in names:
        own = [
            scores.of(inside).apart(scores.of(~inside), name) if FEWEST <= inside.sum() <= len(of) - FEWEST else None
            for _, inside in parts
        ]
        corrected = iter(holm([gap.p for gap in own if gap is not None]))
        gaps[name] = [None if gap is None else dataclasses.replace(gap, p=next(corrected)) for gap in own]
        gaps[name] = [gap if gap is not None and gap.known else None for gap in gaps[name]]
    return tuple(
        Group(
            value,
            int(inside.sum()),
            {name: known for name in names if (known := scores.of(inside).interval(name)).known},
            {name: gap for name in names if (gap := gaps[name][place]) is not None},
        )
        for place, (value, inside) in enumerate(parts)
    )


def _ranges(known: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """The range of each value, of as many records as the others, and all ranges from the lowest on; nothing of few
    values, and of such that are no numbers."""
    if len({value for value in known if value}) <= MOST or (numbers := _numbers(known)) is None:
        return [], []
    edges = np.unique(np.quantile(numbers[~np.isnan(numbers)], np.linspace(0, 1, RANGES + 1)))
    places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    ranges = [f"[{low:g}, {high:g})" for low, high in zip(edges, edges[1:], strict=False)]
    ranges[-1] = f"{ranges[-1][:-1]}]"
    of = [MISSING if math.isnan(one) else ranges[place] for one, place in zip(numbers, places, strict=True)]
    return of, [*ranges, MISSING]


def _named(values: Sequence[Any] | np.ndarray) -> list[str]:
    """The group of each value that is a name."""
    known = texts(values)
    counted, counts = np.unique([value or MISSING for value in known], return_counts=True)
    kept = set(counted[np.argsort(-counts, kind="stable")[:MOST]].tolist())
    return [name if (name := value or MISSING) in kept else OTHERS for value in known]


def _numbers(values: Sequence[str | None]) -> np.ndarray | None:
    """The values as numbers (n,), nan where there is none; None where one is no number."""
    try:
        return np.array([float(value) if value else math.nan for value in values])
    except ValueError:
        return None


def read(folder: Path) -> Groups | None:
    """What `by_group` found last of the run in ``folder``; None where it was never asked.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    return json_files.load(path, _of_content) if path.is_file() else None


def _of_content(content: Any) -> Groups:
    of = json_files.built_by_name
    groups = tuple(
        Group(str(one["name"]), int(one["records"]), of(Interval, one["metrics"]), of(Difference, one["apart"]))
        for one in content["groups"]
    )
    return Groups(str(content["column"]), str(content["split"]), str(content["metric"]), groups)
