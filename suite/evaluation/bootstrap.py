"""How sure a metric is: each record's own part of it, intervals by the bootstrap, and differences of two runs.

Records are drawn with replacement and the metric is computed of each draw (Efron, 1979, doi 10.1214/aos/1176344552). Of
two runs on the same records both are computed of the same draws, so that what is hard for both cancels.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.inspection import CHUNK, content_hashes
from suite.errors import InputError
from suite.evaluation.metrics.ranking import samples
from suite.experiment import serialization

LEVEL = 0.95
"""Share of the draws that lie within an interval."""
DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A value and the bounds between which it lies with probability ``LEVEL``."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there are bounds: a metric that does not split by record has none."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})" if self.known else f"{self.value:.4g}"


@dataclass(frozen=True)
class Difference(Interval):
    """How much two values differ.

    Attributes:
        p: two-sided p-value: twice the share of draws that lie on the other side of 0.
    """

    p: float

    @classmethod
    def of(cls, value: float, draws: Sequence[np.ndarray]) -> "Difference":
        """From draws (k,) of the difference."""
        drawn = np.concatenate(draws) if draws else np.zeros(0)
        drawn = drawn[np.isfinite(drawn)]
        beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
        # Of so many draws none is on the other side, which is no proof that none ever would be.
        p = float(min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))) if len(drawn) else float("nan")
        bounds = _bounds(value, draws)
        return cls(value, bounds.low, bounds.high, p)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several comparisons, corrected for their number (Holm, 1979, Scandinavian Journal of Statistics 6).

    A comparison without a p-value (nan) keeps none. Where each below 0.05 is called significant, one or more of them
    are so by chance in 5 % of all cases at the most.
    """
    order = sorted((place for place in range(len(p)) if not math.isnan(p[place])), key=lambda place: p[place])
    corrected, largest = [float("nan")] * len(p), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p[place] * (len(order) - rank)))
        corrected[place] = largest
    return corrected


@dataclass(frozen=True)
class Scores:
    """What each record of a split adds to each metric.

    Attributes:
        rows: metric -> one state a record, in the order in which records were evaluated.
        records: the place in the source of each of them.
        whole: metric -> state of the whole split, of metrics that do not split by record: they have no interval.
    """

    rows: Mapping[str, Sequence[MetricState]]
    records: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    whole: Mapping[str, MetricState] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def values(self) -> dict[str, float]:
        """Metric -> value over all records."""
        by_record = {name: _whole(rows) for name, rows in self.rows.items() if rows}
        return {**by_record, **{name: state.value() for name, state in self.whole.items()}}

    @property
    def names(self) -> tuple[str, ...]:
        """All metrics."""
        return (*self.rows, *self.whole)

    def interval(self, metric: str, seed: int = 0) -> Interval:
        """The metric's value with its interval; without bounds where the metric does not split by record."""
        if metric in self.whole:
            return Interval(self.whole[metric].value(), float("nan"), float("nan"))
        rows = self._of(metric)
        draws = [type(rows[0]).resampled(rows, block) for block in samples(len(rows), DRAWS, seed)]
        return _bounds(_whole(rows), draws)

    def minus(self, other: "Scores", metric: str, seed: int = 0) -> "Difference":
        """This run's value less the other's, on the same records.

        Raises:
            InputError: the runs were evaluated on other records.
        """
        if metric in self.whole and metric in other.whole:
            return Difference.of(self.whole[metric].value() - other.whole[metric].value(), ())
        ours, theirs = self.sorted()._of(metric), other.sorted()._of(metric)
        if not np.array_equal(np.sort(self.records), np.sort(other.records)):
            raise InputError(
                "runs",
                "were evaluated on other records, so their difference says little.",
                found=f"{len(self)} and {len(other)} records",
                fix="runs with the same data and split",
            )
        draws = [
            type(ours[0]).resampled(ours, block) - type(theirs[0]).resampled(theirs, block)
            for block in samples(len(ours), DRAWS, seed)
        ]
        return Difference.of(_whole(ours) - _whole(theirs), draws)

    def apart(self, other: "Scores", metric: str, seed: int = 0) -> "Difference":
        """This value less the other's, on other records: each is drawn by itself."""
        ours, theirs = self._of(metric), other._of(metric)
        own, their = (
            np.concatenate([type(rows[0]).resampled(rows, block) for block in samples(len(rows), DRAWS, seed + place)])
            for place, rows in enumerate((ours, theirs))
        )
        return Difference.of(_whole(ours) - _whole(theirs), [own - their])

    def of(self, chosen: np.ndarray) -> "Scores":
        """Those of the records where ``chosen`` (n,) is True, without metrics that do not split by record."""
        places = np.flatnonzero(chosen).tolist()
        return Scores({name: [states[i] for i in places] for name, states in self.rows.items()}, self.records[places])

    def sorted(self) -> "Scores":
        """In the order of the source."""
        order = np.argsort(self.records, kind="stable")
        rows = {name: [states[i] for i in order] for name, states in self.rows.items()}
        return Scores(rows, self.records[order], self.whole)

    def _of(self, metric: str) -> Sequence[MetricState]:
        if metric not in self.rows or not self.rows[metric]:
            raise InputError(f'metric "{metric}"', "was not measured.", found=", ".join(self.names) or "none")
        return self.rows[metric]


def _whole(rows: Sequence[MetricState]) -> float:
    """Value of all rows together. They are added by pairs: some tallies grow as they add."""
    while len(rows) > 1:
        left_over = rows[len(rows) // 2 * 2 :]
        rows = [*(first + second for first, second in zip(rows[::2], rows[1::2], strict=False)), *left_over]
    return rows[0].value()


def _bounds(value: float, draws: Sequence[np.ndarray]) -> Interval:
    drawn = np.concatenate(draws) if draws else np.zeros(0)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def check_same_records(runs: Sequence[tuple[str, Task]], split: str) -> None:
    """Refuses runs whose split holds other records than the first one's.

    Args:
        runs: what each is called, and its task.
        split: where they are to be compared.

    Raises:
        InputError: the split holds other records, or another number of them.
    """
    data = [serialization.to_json(task.data) for _, task in runs]
    sources = [task.source(split) for _, task in runs]
    for (name, _), own, source in zip(runs[1:], data[1:], sources[1:], strict=True):
        same = len(source) == len(sources[0])
        if same and own == data[0]:
            continue
        if not same or _fingerprint(source) != _fingerprint(sources[0]):
            raise InputError(
                "runs",
                f"{runs[0][0]} and {name} read other records as {split}, so their difference says little.",
                found=f"{len(sources[0]):,} and {len(source):,} records",
                fix="runs with the same data and split",
            )


def _fingerprint(source: Source) -> bytes:
    """A hash of the content of all records, in order; where their files lie is no part of it."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(source), CHUNK):
        columns: dict[str, Any] = source[np.arange(start, min(start + CHUNK, len(source)))]
        names = sorted(columns.keys() - {"file"}) or ["file"]
        for row in content_hashes([columns[name] for name in names]):
            digest.update(row)
    return digest.digest()


def by_record(
    task: Task,
    outputs: Mapping[str, np.ndarray],
    batch: Batch,
    records: np.ndarray,
    reference: Mapping[str, np.ndarray] | None = None,
) -> Scores:
    """Scores of a batch: each unmasked row's own states, as ``task.score`` gives them of a batch of that row alone, and
    the batch's states of metrics that do not split by record.

    Bounds of an interval are left out: they come of draws already.

    Args:
        task, outputs, batch, reference: see `Task.score`.
        records: the place in the source of each unmasked row.
    """
    rows: dict[str, list[MetricState]] = {}
    split = True
    one = lambda values, i: {name: np.asarray(value)[i : i + 1] for name, value in values.items()}
    for i in np.flatnonzero(np.asarray(batch["mask"])):
        for name, state in task.score(one(outputs, i), one(batch, i), reference).items():
            if state.by_record:
                rows.setdefault(name, []).append(state)
            elif not state.bounds:
                split = False
    states = {} if split else task.score(outputs, batch, reference)
    whole = {name: state for name, state in states.items() if not state.by_record and not state.bounds}
    return Scores(rows, records, whole)


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of batches."""
    rows: dict[str, list[MetricState]] = {}
    whole: dict[str, MetricState] = {}
    for part in parts:
        for name, more in part.rows.items():
            rows.setdefault(name, []).extend(more)
        for name, state in part.whole.items():
            whole[name] = whole[name] + state if name in whole else state
    places = [np.asarray(part.records, np.int64) for part in parts]
    rows = {name: states for name, states in rows.items() if not all(state.absent for state in states)}
    return Scores(rows, np.concatenate(places) if places else np.zeros(0, np.int64), whole)
