"""Asks a run as a user would: what it answers to some records, and how long that takes."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.codec import File
from suite.contracts.signature import Input
from suite.data.preprocessing.boxes import boxes_of
from suite.data.recordings import extent
from suite.reporting.blocks import Audio, Block, Card, Cards, Picture, Shown, Table, Text
from suite.reporting.drawings.values import Given, boxes, short, shown
from suite.runs.run import Run

ASKED = 4
"""Records that are shown with their answers."""
SIZES = (1, 64)
"""Records that are asked at a time where latency is measured."""
SECONDS, MOST = 2.0, 50
"""How long, and how often, each size is measured."""


def records(run: Run, split: str, count: int) -> tuple[Columns, Columns]:
    """``count`` records, evenly spaced: all columns, and those that a request holds."""
    source, codec = run.experiment.task.source(split), run.codec
    columns = source[np.arange(count) * len(source) // count]
    if codec.primary in columns and len(codec.inputs) == 1:
        return columns, {codec.primary: columns[codec.primary]}
    named = {entry.name: columns[entry.name] for entry in codec.inputs if entry.name in columns}
    return columns, named or columns


def answers(run: Run, split: str, others: Sequence[Run] = ()) -> list[Block]:
    """Some records and what is answered: each value as its kind is drawn. ``others`` are asked the same, and their
    answers stand beside those of the run, each with its number."""
    columns, request = records(run, split, ASKED)
    source, codec = run.experiment.task.source(split), run.codec
    asked = [(f"{place} " if others else "", other) for place, other in enumerate((run, *others), 1)]
    answered = [(label, other.codec, other.predict(records(other, split, ASKED)[1])) for label, other in asked]
    whose = "what each run predicts, by its number" if others else "the prediction"
    note = f"{ASKED} records of {split}, evenly spaced, correct or not. Behind the arrows: {whose}."
    classes = {name: names for name, names in source.classes.items() if source.schema.get(name) == "class"}
    beside = {name: _named(values, classes.get(name)) for name, values in columns.items()}
    stated = {name for name, kind in source.schema.items() if kind == "boxes" and name in columns}
    inputs = {entry.name: entry for entry in codec.inputs}
    cards = []
    for place in range(ASKED):
        given = Given(codec.inputs, {name: values[place] for name, values in request.items()})
        fields = [
            (name, part)
            for name, values in beside.items()
            if name not in request or len(request) > 1
            for part in (
                shown(inputs[name], values[place], given)
                if name in inputs
                else boxes([box.to_json() for box in boxes_of(values[place])], name, Given((), {}))
                if name in stated
                else [short(values[place])]
            )
        ]
        for label, own, predictions in answered:
            outputs = {output.name: output for output in own.outputs}
            for name, value in predictions[place].items():
                parts = shown(outputs[name], value, given) if name in outputs else [short(value)]
                fields += [(f"{label}→ {name}", part) for part in parts]
        lone = next(iter(request)) if len(request) == 1 else ""
        framed = [part for _, part in fields if isinstance(part, Picture) and part.kind == "framed"]
        if lone and len(framed) == 1:  # the picture that was asked, with what was answered on it
            rest = tuple(field for field in fields if field[1] is not framed[0])
            cards.append(Card(picture=framed[0], fields=rest))
            continue
        cards.append(_card(inputs.get(lone), given.record.get(lone), given, place, tuple(fields)))
    if len(request) > 1 and all(isinstance(part, str) for card in cards for _, part in card.fields):
        head = tuple(name for name, _ in cards[0].fields)
        rows = tuple(tuple(str(part) for _, part in card.fields) for card in cards)
        return [Table(head, rows, words=frozenset(range(len(head)))), Text(note, "note")]
    return [Cards(tuple(cards), note)]


def _named(values: Any, names: Sequence[str] | None) -> Any:
    """Classes by their names, where the data holds their places."""
    return values if names is None else [names[place] if 0 <= place < len(names) else place for place in values]


def _card(signature: Input | None, value: Any, given: Given, place: int, fields: tuple[tuple[str, Shown], ...]) -> Card:
    """The record as it is drawn, above the fields; ``value`` None: the fields say all of it."""
    if value is None:
        return Card(fields=fields)
    first = shown(signature, value, given)[0] if signature is not None else ""
    if isinstance(first, Picture):
        return Card(picture=dataclasses.replace(first, alt=f"image {place + 1}"), fields=fields)
    if isinstance(first, Audio):
        return Card(sound=first.uri, fields=fields)
    return Card(text=short(value, 700), fields=fields)


class Taken(NamedTuple):
    """How long answers took.

    Attributes:
        milliseconds: from the records to their answers, each time.
        sound: seconds that the recordings last which the answers are, all of them together; 0 where they are none.
    """

    milliseconds: Sequence[float]
    sound: float = 0.0


def latencies(run: Run, split: str) -> dict[int, Taken]:
    """Milliseconds from records to answers, by how many are asked at a time; compiled before."""
    measured = {}
    for size in SIZES:
        _, request = records(run, split, size)
        answered = run.predict(request)
        begun = time.perf_counter()
        taken: list[float] = []
        while len(taken) < 3 or (len(taken) < MOST and time.perf_counter() - begun < SECONDS):
            before = time.perf_counter()
            run.predict(request)
            taken.append(1000 * (time.perf_counter() - before))
        files = [value for answer in answered for value in answer.values() if isinstance(value, File)]
        sounds = [file.data for file in files if file.media_type.startswith("audio/")]
        measured[size] = Taken(taken, sum(extent(data)[0] for data in sounds))
    return measured
