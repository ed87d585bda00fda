"""Asks a run as a user would: what it answers to some records, and how long that takes."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Columns
from suite.data.preprocessing.image import decode
from suite.evaluation.artifacts import Image
from suite.reporting import pictures
from suite.reporting.blocks import Block, Card, Cards, Table, Text
from suite.runs.run import Run

ASKED = 4
"""Records that are shown with their answers."""
SIZES = (1, 64)
"""Records that are asked at a time where latency is measured."""
SECONDS, MOST = 2.0, 50
"""How long, and how often, each size is measured."""


def records(run: Run, split: str, count: int) -> tuple[Columns, Columns]:
    """``count`` records, evenly spaced: all columns, and those that a request holds."""
    task = run.experiment.task
    source = task.source(split)
    columns = source[np.arange(count) * len(source) // count]
    primary = getattr(task, task.primary)
    return columns, {primary: columns[primary]} if primary in columns else columns


def answers(run: Run, split: str) -> list[Block]:
    """Some records and what is answered, as ``suite predict`` prints it."""
    columns, request = records(run, split, ASKED)
    source = run.experiment.task.source(split)
    made = run.predict(request)
    note = f"{len(made)} records of {split}, evenly spaced, right or wrong. Behind the arrows: what was answered."
    beside = {
        name: _named(values, source.classes.get(name))
        for name, values in columns.items()
        if name not in request or len(request) > 1
    }
    rows = [
        [
            *((name, _short(values[place])) for name, values in beside.items()),
            *((f"→ {name}", _short(value)) for name, value in answer.items()),
        ]
        for place, answer in enumerate(made)
    ]
    if len(request) > 1:
        head = tuple(name for name, _ in rows[0])
        table = Table(head, tuple(tuple(value for _, value in row) for row in rows), words=frozenset(range(len(head))))
        return [table, Text(note, "note")]
    ((name, values),) = request.items()
    cards = tuple(_card(source.schema[name], values[place], place, row) for place, row in enumerate(rows))
    return [Cards(cards, note)]


def _named(values: Any, names: Sequence[str] | None) -> Any:
    """Classes by their names, where the data holds their places."""
    return values if names is None else [names[place] if 0 <= place < len(names) else place for place in values]


def _card(kind: str, value: Any, place: int, fields: list[tuple[str, str]]) -> Card:
    if kind == "image":
        return Card(picture=pictures.image(Image(decode(value)), f"image {place + 1}"), fields=tuple(fields))
    return Card(text=_short(value, 700), fields=tuple(fields))


def _short(value: Any, most: int = 300) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype} {'x'.join(map(str, value.shape))}"
    if isinstance(value, float | np.floating):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_short(each)}" for name, each in value.items())
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def latencies(run: Run, split: str) -> dict[int, list[float]]:
    """Milliseconds from records to answers, by how many are asked at a time; compiled before."""
    made = {}
    for size in SIZES:
        _, request = records(run, split, size)
        run.predict(request)
        begun = time.perf_counter()
        taken: list[float] = []
        while len(taken) < 3 or (len(taken) < MOST and time.perf_counter() - begun < SECONDS):
            before = time.perf_counter()
            run.predict(request)
            taken.append(1000 * (time.perf_counter() - before))
        made[size] = taken
    return made
