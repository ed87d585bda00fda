"""Baselines measured: fitted to the training split and scored on another, on the host, as a model is."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.baseline import Rows
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.contracts.preprocessor import Postprocessor
from suite.contracts.task import Task
from suite.data.pipeline.padding import batched, row_seeds
from suite.errors import InputError
from suite.evaluation.bootstrap import Scores, by_record, joined

CHUNK = 256
"""Records read at a time."""
SEED = 0
"""Of the draw of training records."""


class TooSlow(InputError):
    """Fitting did not come to its end in time."""


@dataclass(frozen=True)
class Measured:
    """A baseline on the records of a split.

    Attributes:
        name: as `Task.baselines` calls it.
        chosen: what its fit chose, for a person; may be empty.
        fitted: training records that it was fitted to.
        of: training records that there are.
        seconds: that its fit took, without reading.
        scores: of the split.
    """

    name: str
    chosen: str
    fitted: int
    of: int
    seconds: float
    scores: Scores


def measure(task: Task, train: Source, split: Source, limit: float = 0) -> list[Measured]:
    """Fit the task's baselines and score them; none where the task has none.

    All are fitted to the same training records: as many as the one that takes the fewest.

    Args:
        task: its preprocessors are fitted.
        train, split: cleaned records, as `Task.source` gives them.
        limit: seconds after which no further record is read; 0: no limit. An estimator that fits goes on to its end.

    Raises:
        InputError: a package is missing, a record cannot be read, or the limit is passed.
    """
    task = _without_conclusions(task)
    baselines = task.baselines()
    if not baselines:
        return []
    begun = time.monotonic()
    deadline = begun + limit if limit else float("inf")
    most = min((baseline.most for baseline in baselines.values() if baseline.most), default=len(train))
    places = np.arange(len(train))
    if len(train) > most:
        places = np.sort(np.random.default_rng(SEED).permutation(len(train))[:most])
    for _, columns, rows in _chunks(task, train, places, deadline):
        for baseline in baselines.values():
            baseline.add(columns, rows)
    seconds, chosen = {}, {}
    for name, baseline in baselines.items():
        fitting = time.monotonic()
        chosen[name] = baseline.fit()
        seconds[name] = time.monotonic() - fitting
    parts: dict[str, list[Scores]] = {name: [] for name in baselines}
    for chunk, columns, rows in _chunks(task, split, np.arange(len(split)), deadline):
        batch = _batch(rows, chunk)
        for name, baseline in baselines.items():
            parts[name].append(by_record(task, baseline.outputs(columns, rows), batch, chunk))
    return [
        Measured(name, chosen[name], len(places), len(train), seconds[name], joined(scores))
        for name, scores in parts.items()
    ]


def _without_conclusions(task: Task) -> Task:
    """The task without what it learnt of its model's outputs: a threshold, a temperature, that are none of others'."""
    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}  # type: ignore[arg-type]
    own = {name: value for name, value in fields.items() if isinstance(value, Postprocessor) and value.file}
    open_again = {name: dataclasses.replace(value, file="") for name, value in own.items()}
    return dataclasses.replace(task, **open_again)  # type: ignore[type-var]


def _chunks(
    task: Task, source: Source, places: np.ndarray, deadline: float
) -> Iterator[tuple[np.ndarray, Columns, Rows]]:
    """Places of some records, the records as the data holds them, and encoded."""
    for start in range(0, len(places), CHUNK):
        if time.monotonic() > deadline:
            raise TooSlow("baseline", "takes longer than it may beside training.")
        chunk = places[start : start + CHUNK]
        columns: dict[str, Any] = source[chunk]
        yield chunk, columns, task.encode(columns)


def _batch(rows: Mapping[str, Any], places: np.ndarray) -> Batch:
    """What `Task.score` compares outputs with: the rows, padded to the longest of them."""
    return {**batched(dict(rows), {}), "seed": row_seeds(places, len(places))}
