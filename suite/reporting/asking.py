"""Asks a run as a user would: what it answers to some records, and how long that takes."""

import json
import time
from typing import Any

import numpy as np

from suite.base import Columns
from suite.data.image import decode
from suite.exhibits import Image
from suite.reporting import pictures
from suite.reporting.blocks import Block, Card, Cards
from suite.run import Run

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
    kinds = run.experiment.task.source(split).schema
    made = run.predict(request)
    cards = tuple(_card(columns, request, kinds, place, answer) for place, answer in enumerate(made))
    return [Cards(cards, f"{ASKED} records of {split}, evenly spaced, whether right or wrong.")]


def _card(columns: Columns, request: Columns, kinds: Any, place: int, answer: dict[str, Any]) -> Card:
    (name, values), *others = request.items()
    rest = {key: value[place] for key, value in columns.items() if key not in request or others}
    fields = [(key, _short(value)) for key, value in rest.items()]
    fields += [(f"→ {key}", _short(value)) for key, value in answer.items()]
    if others:
        return Card(fields=tuple(fields))
    if kinds[name] == "image":
        return Card(picture=pictures.image(Image(decode(values[place])), f"image {place + 1}"), fields=tuple(fields))
    return Card(text=_short(values[place], 700), fields=tuple(fields))


def _short(value: Any, most: int = 300) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype} {'x'.join(map(str, value.shape))}"
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
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
