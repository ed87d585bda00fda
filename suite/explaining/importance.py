"""Importance over a split: what a model uses on the whole, by the columns that it is given and the units in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.metric_meaning import better
from suite.data.sources.memory import Subset, evenly_spaced
from suite.errors import InputError
from suite.evaluation.bootstrap import Difference, Interval
from suite.explaining.explanation import Explanation
from suite.explaining.measures import mean_interval
from suite.runs.run import Run

SHOWN = 20
"""Most units that are listed, those of the largest importance."""
REPEATED = 3
"""Records that a word must be in to be listed."""
MOST = 2000
"""Records that a column's values are exchanged among."""


class Exchanged(Subset):
    """A source in which one column has the values of other records.

    Args:
        source: n records.
        name: of the column.
        order: (n,) the record whose value each has.
    """

    def __init__(self, source: Source, name: str, order: np.ndarray):
        super().__init__(source, np.arange(len(source)))
        self._name, self._order = name, order

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {**super().__getitem__(indices), self._name: self.column(self._name, indices)}

    def column(self, name: str, indices: np.ndarray) -> Any:
        return super().column(name, self._order[np.asarray(indices)] if name == self._name else indices)


@dataclass(frozen=True)
class Importance:
    """Of the units of a split.

    Attributes:
        method: whose attributions they are.
        attributed: unit -> mean size of its attribution, over the records that have it; the largest first.
        metric: what falls where a column's values are exchanged; empty where nothing was.
        exchanged: column -> how much worse the metric is then; the largest first.
    """

    method: str
    attributed: dict[str, Interval]
    metric: str
    exchanged: dict[str, Difference]


def attributed(explanations: Sequence[Explanation]) -> dict[str, Interval]:
    """Unit -> mean size of its attribution. Where records have units of their own, such as words, those count that
    `REPEATED` records have, or else the inputs."""
    sizes: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    for one in explanations:
        own: dict[str, float] = {}
        inputs: dict[str, float] = {}
        for unit, value in zip(one.division.units, np.abs(one.values).tolist(), strict=True):
            name = unit.name.casefold() if one.division.texts else unit.name
            own[name] = max(own.get(name, 0.0), value)
            inputs[unit.column] = inputs.get(unit.column, 0.0) + value
        for kept, values in ((sizes, own), (whole, inputs)):
            for name, value in values.items():
                kept.setdefault(name, []).append(value)
    least = min(REPEATED, len(explanations))
    repeated = {name: values for name, values in sizes.items() if len(values) >= least}
    chosen = repeated or whole
    order = sorted(chosen, key=lambda name: -float(np.mean(chosen[name])))[:SHOWN]
    return {name: mean_interval(chosen[name]) for name in order}


def exchanged(run: Run, split: str, seed: int = 0) -> tuple[str, dict[str, Difference]]:
    """How much worse the metric that chose the checkpoint is where the values of one input are those of other records,
    and its name (`Breiman, 2001, doi 10.1023/A:1010933404324`); nothing of a task with one input.

    Args:
        run: which.
        split: whose records; of more than `MOST`, an evenly spaced selection.
        seed: of the exchange.

    Raises:
        InputError: no metric of the task splits by record.
    """
    source = run.experiment.task.source(split)
    inputs = [entry.name for entry in run.codec.inputs if entry.name in source.schema]
    if len(inputs) < 2:
        return "", {}
    source = Subset(source, evenly_spaced(source, MOST))
    reference = run.reference(split)
    whole = run.score(source, reference).sorted()
    names = [name for name in whole.rows if better(name) in ("higher", "lower")]
    if not names:
        raise InputError("explanation", f"no metric of {type(run.experiment.task).__name__} splits by record.")
    chosen = run.experiment.train.best.removeprefix("-")
    metric = chosen if chosen in names else next((name for name in names if name != "loss"), names[0])
    order = np.random.default_rng(seed).permutation(len(source))
    worse = {}
    for name in inputs:
        other = run.score(Exchanged(source, name, order), reference).sorted()
        worse[name] = whole.minus(other, metric) if better(metric) == "higher" else other.minus(whole, metric)
    return metric, dict(sorted(worse.items(), key=lambda pair: -pair[1].value))
