"""Endpoint: one program of a model as it is asked; records are checked, encoded, batched and answered."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from suite.bundles.opened import Program
from suite.errors import InputError
from suite.serving.batch_rows import Record, Row, gathered, joined, records, split
from suite.serving.batching import Batcher, Observe
from suite.serving.checks import Checks
from suite.serving.errors import Refused, refused
from suite.serving.settings import Settings


class Asked(NamedTuple):
    """A row as it waits: encoded, its record as it was asked, the record's seed, whether its answer names every class,
    and where a record may be several rows, how many they are; else 0."""

    row: Row
    record: Record
    seed: int
    every: bool
    rows: int = 0


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One program of a version.

    Attributes:
        program: what answers.
        checks: what may be asked.
        batcher: where records wait.
    """

    program: Program
    checks: Checks
    batcher: Batcher

    def rows(self, columns: dict[str, list[Any]], seeds: Sequence[int], every: bool = False) -> list[tuple[Asked, int]]:
        """Each row and the length it is padded to; those of a record follow each other.

        Args:
            columns: checked values, one a record.
            seeds: one a record.
            every: whether answers name every class.

        Raises:
            Refused: a record cannot be encoded, or is longer than any program takes; says which. Or all take more rows
                than may wait.
        """
        count = len(next(iter(columns.values())))
        try:
            of_each = self.program.rows_of(columns)
            if of_each is not None:
                self.batcher.check_room(int(of_each.sum()))
            rows = split(self.program.encode(columns), count if of_each is None else int(of_each.sum()))
        except InputError as error:
            raise self._which(columns, count, error) from None
        given = zip(records(columns, count), seeds, [0] * count if of_each is None else of_each.tolist(), strict=True)
        asked, places = [], iter(rows)
        for place, (record, seed, several) in enumerate(given):
            for row in itertools.islice(places, several or 1):
                asked.append((Asked(row, record, seed, every, several), self._length(row, place)))
        return asked

    def answers(self, asked: Sequence[Asked], said: Sequence[Any]) -> list[Any]:
        """One answer a record.

        Args:
            asked: the rows of a request.
            said: what was computed of each: the record's answer, or the outputs on one of its rows.
        """
        answers, place = [], 0
        while place < len(asked):
            rows, first = asked[place].rows, asked[place]
            if not rows:
                answers.append(said[place])
            else:
                outputs = joined(said[place : place + rows])
                answers += self.program.decode(outputs, gathered([first.record]), first.every)
            place += rows or 1
        return answers

    def _length(self, row: Row, place: int) -> int:
        try:
            return self.program.bucket(row)
        except InputError as error:
            raise refused(error, f"inputs[{place}]") from None

    def _which(self, columns: dict[str, list[Any]], count: int, error: InputError) -> Refused:
        for place in range(count if count > 1 else 0):
            try:
                self.program.encode({name: values[place : place + 1] for name, values in columns.items()})
            except InputError as own:
                return refused(own, f"inputs[{place}]")
        return refused(error, "inputs[0]") if count == 1 else refused(error).within("inputs")


def endpoint_of(
    program: Program, settings: Settings, measured: Mapping[tuple[int, int], float], observe: Observe
) -> Endpoint:
    """A warm program with a queue of its own.

    Args:
        program: of an opened bundle.
        settings: of the server.
        measured: (length, size) -> seconds that such a batch takes.
        observe: told of each batch.
    """
    codec = program.codec
    batcher = Batcher(
        functools.partial(_answers, program),
        settings.sizes,
        wait=settings.max_wait_ms / 1000,
        capacity=settings.queue,
        seconds=measured,
        observe=observe,
    )
    checks = Checks(codec.inputs, codec.primary, codec.texts, settings, program.samples, codec.styles)
    return Endpoint(program, checks, batcher)


def _answers(program: Program, asked: Sequence[Asked], length: int, size: int) -> list[dict[str, Any]]:
    """One answer a record; where one may be several rows, the outputs on each row, which `Endpoint.answers` joins."""
    rows, given, seeds, every, several = zip(*asked, strict=True)
    outputs = program.outputs(joined(rows), length, size, np.array(seeds, np.uint32))
    if any(several):
        return split(outputs, len(rows))
    columns = gathered(given)
    if not any(every):
        return program.decode(outputs, columns)
    full = program.decode(outputs, columns, every=True)
    if all(every):
        return full
    likeliest = program.decode(outputs, columns)
    return [full[place] if wanted else likeliest[place] for place, wanted in enumerate(every)]
