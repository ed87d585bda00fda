"""Endpoint: one program of a model as it is asked; records are checked, encoded, batched and answered."""

import functools
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
    """A record as it waits: encoded, as it was asked, its seed, and whether its answer names every class."""

    row: Row
    record: Record
    seed: int
    every: bool


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
        """Each record and the length it is padded to.

        Args:
            columns: checked values, one a record.
            seeds: one a record.
            every: whether answers name every class.

        Raises:
            Refused: a record cannot be encoded, or is longer than any program takes; says which.
        """
        count = len(next(iter(columns.values())))
        try:
            rows = split(self.program.encode(columns), count)
        except InputError as error:
            raise self._which(columns, count, error) from None
        given = zip(rows, records(columns, count), seeds, strict=True)
        return [(Asked(*one, every), self._length(one[0], place)) for place, one in enumerate(given)]

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
        return refused(error, "inputs[0]" if count == 1 else "inputs")


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
    """One answer a record."""
    rows, given, seeds, every = zip(*asked, strict=True)
    outputs = program.outputs(joined(rows), length, size, np.array(seeds, np.uint32))
    columns = gathered(given)
    if not any(every):
        return program.decode(outputs, columns)
    full = program.decode(outputs, columns, every=True)
    if all(every):
        return full
    likeliest = program.decode(outputs, columns)
    return [full[place] if wanted else likeliest[place] for place, wanted in enumerate(every)]
