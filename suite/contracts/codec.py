"""Codec: both ends of an answer, the request as a model takes it and the outputs as a person reads them.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts import kinds
from suite.contracts.batch import Columns
from suite.contracts.bounds import Bounds, check_bounds
from suite.contracts.division import Division, NumberScale, plain
from suite.contracts.signature import File, Input, Output

__all__ = ["Codec", "File", "Input", "Output"]


class Codec(ABC):
    """Both ends of an answer: what is asked as a model takes it, and what a model says as a person reads it.

    A final, frozen dataclass, made by `Task.codec` and stored as JSON; what it has learnt lies in the files of its
    Preprocessors. It is all that serving needs of a task, so it loads neither JAX nor Flax nor the task.
    """

    number_bounds: ClassVar[Bounds] = {}
    """Of its numbers: a bundle may come from anybody."""

    def __post_init__(self) -> None:
        check_bounds(self, self.number_bounds)

    @property
    @abstractmethod
    def inputs(self) -> tuple[Input, ...]:
        """What a request gives."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """What an answer holds, in its order."""

    @property
    def primary(self) -> str:
        """The column that a bare value stands for: the text in ``predict(["..."])``."""
        return self.inputs[0].name

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are texts whatever they look like. A table is typed by all of its records, and those of a
        request may look otherwise than those of training: ``007`` alone is a number, beside ``A12`` it is none."""
        return tuple(entry.name for entry in self.inputs if kinds.input_kind(entry.kind).textual)

    @property
    def styles(self) -> dict[str, str]:
        """Columns of numbers -> how training's were written, such as ``"decimal comma"``, where that is not the usual
        way: 1.234 alone may be 1234."""
        return {}

    @property
    def longest(self) -> int:
        """The largest length that rows are padded to; 0 where they are of one shape."""
        return 0

    @property
    def purpose(self) -> str:
        """What a model with this codec does, as the beginning of a sentence."""
        return kinds.purpose(self.inputs, self.outputs)

    @property
    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one answer, by the kinds of ``outputs``."""
        return kinds.answer_schema(self.outputs)

    @property
    def names_catalogue(self) -> bool:
        """Whether answers, or requests, name the records of the catalogue: then no two may be called alike."""
        return False

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        """Output of the program -> what the places of its last axis are called, such as classes. A bundle whose program
        has other places is refused when it is opened."""
        return {}

    @property
    def catalogue_names(self) -> Sequence[str]:
        """What the records of the catalogue are called, by place, where answers name them; else empty."""
        return ()

    def with_catalogue(self, names: Sequence[str], file: Path) -> "Codec":
        """This codec for a catalogue of other records.

        Args:
            names: of the records, by place; of codecs with ``names_catalogue``.
            file: where the codec may keep what it knows of them, as JSON.
        """
        return self

    def opened(self, columns: Columns) -> Columns:
        """The columns of whole records, where ``columns`` holds records; otherwise ``columns`` themselves."""
        return columns

    def rows_of(self, columns: Columns) -> np.ndarray | None:
        """How many rows ``encode`` makes of each record (b,), where one may take several, such as the tiles of a large
        picture; None: one of each.

        The rows of a record follow each other, and are then arrays. Each is a row of a batch like any other, so that
        the program is that of single rows; ``decode`` is given the outputs of all.

        Raises:
            InputError: as ``encode``, or a record takes more rows than it may.
        """
        return None

    @abstractmethod
    def encode(self, columns: Columns) -> dict[str, Any]:
        """Model-ready rows: arrays (b, ...) or Ragged, see ``rows_of``. Other columns than ``inputs`` are left alone.

        Raises:
            InputError: a required column is missing, or holds what cannot be read.
        """

    @abstractmethod
    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """One answer a record, that a person can read: the values that ``self.outputs`` names, in JSON or as `File`.

        Args:
            outputs: what the model says of the rows, each array (b, ...), see ``rows_of``.
            columns: the records (b, ...) that were asked, as ``encode`` was given them.
        """

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        """How each record splits into units that an explanation speaks of, and what stands for an absent one.

        Args:
            columns: records (b, ...), as ``encode`` was given them.
            rows: what it made of them.

        A codec that leaves this as it is has its numbers as units, one by one where they are few.
        """
        dense = {
            name: np.asarray(value)
            for name, value in rows.items()
            if not hasattr(value, "lengths") and np.asarray(value).dtype.kind in "fiu" and np.asarray(value).ndim > 1
        }
        return plain(dense, len(next(iter(columns.values()), ())))

    def number_scale(self, place: int) -> NumberScale | None:
        """How an explained number is read; None of log odds, and of numbers that are learnt as they are.

        Args:
            place: of the number among ``place_names``; 0 of a single one.
        """
        return None

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """As `decode`, but with the probability of every class where that names the likeliest few and an Output lists
        the classes."""
        return self.decode(outputs, columns)
