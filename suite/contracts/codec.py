"""The contracts every domain fulfils: Source, Data, Preprocessor, Batch, MetricState, Codec, Task, ModelConfig.

Data flows one way: ``Data.open`` -> ``Source[indices]`` -> columns -> ``Task.encode`` -> ragged or dense
arrays -> the pipeline pads them into a ``Batch`` -> ``Task.loss`` or ``Task.predict`` (jitted) ->
``Task.score`` and ``Task.decode`` (host). The trainer knows these names and no domain.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from suite.contracts.batch import Columns

if TYPE_CHECKING:
    pass


FILES = ("image", "audio")
"""Kinds of inputs that are files."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing that a request gives, for forms, schemas and checks before anything is encoded."""

    name: str
    """The column, or key of a JSON object."""
    kind: Literal["text", "image", "audio", "number", "category", "list"]
    """text; image and audio: the bytes of a file, or arrays; number; category: one value; list: several of them."""
    description: str = ""
    """What it is, for a person to read."""
    required: bool = True
    """Whether a request must give it; else it may be absent or null."""
    example: Any = None
    """A value in JSON that can be asked; None for what JSON does not hold."""
    limit: float = 0
    """Characters of a text, seconds of a recording, pixels of an image, items of a list that a request should not
    pass. 0: none."""
    choices: tuple[str, ...] = ()
    """Values seen in training, the frequent ones first, at most 100 of them; others may be given all the same."""


class Codec(ABC):
    """Both ends of an answer: what is asked as a model takes it, and what a model says as a person reads it.

    A final, frozen dataclass, made by `Task.codec` and stored as JSON; what it has learnt lies in the files of its
    Preprocessors. It is all that serving needs of a task, so it loads neither JAX nor Flax nor the task.
    """

    @property
    @abstractmethod
    def inputs(self) -> tuple[Input, ...]:
        """What a request gives."""

    @property
    def primary(self) -> str:
        """The column that a bare value stands for: the text in ``predict(["..."])``."""
        return self.inputs[0].name

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are texts whatever they look like. A table is typed by all of its records, and those of a
        request may look otherwise than those of training: ``007`` alone is a number, beside ``A12`` it is none."""
        return tuple(each.name for each in self.inputs if each.kind == "text")

    @property
    def longest(self) -> int:
        """The largest length that rows are padded to; 0 where they are of one shape."""
        return 0

    @property
    @abstractmethod
    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one answer."""

    @abstractmethod
    def encode(self, columns: Columns) -> dict[str, Any]:
        """Model-ready rows: arrays (b, ...) or Ragged. Other columns than ``inputs`` are left alone.

        Raises:
            InputError: a required column is missing, or holds what cannot be read.
        """

    @abstractmethod
    def decode(self, outputs: Mapping[str, np.ndarray]) -> Sequence[dict[str, Any]]:
        """One JSON-able answer a record, that a person can read, from arrays (b, ...)."""
