"""Features of baselines, by the kind of an input: read a chunk of records at a time, fitted once, then a matrix.

Dims: b records, f features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from suite.contracts.baseline import Rows
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.contracts.signature import Input

Values = Any
"""What is kept of records, one entry each: a sequence or an array."""
Form = Literal["counts", "dense", "cells"]
"""What a matrix of features suits: ``counts``, sparse and many, a linear model; ``dense``, some hundred numbers of one
scale, a kernel; ``cells`` of a table, with missing values and categories, trees."""


class Feature(ABC):
    """One input of a codec as numbers.

    Attributes:
        name: the input's column.
        form: what its matrix suits.
    """

    form: Form

    def __init__(self, entry: Input, codec: Codec):
        self.name = entry.name

    @abstractmethod
    def read(self, columns: Columns, rows: Rows) -> Values:
        """What is kept of b records until all of them are read."""

    @abstractmethod
    def fit(self, values: Values) -> str:
        """Learn from what was read of the training records. Returns what it learnt, for a person; may be empty."""

    @abstractmethod
    def matrix(self, values: Values) -> Any:
        """Features (b, f): an array, or a sparse matrix of ``counts``."""

    def cells(self, values: Values) -> np.ndarray:
        """Features (b, f) float64 beside other columns of a table, few and with nan for what is missing."""
        return np.asarray(self.matrix(values), np.float64)

    def counts(self, values: Values) -> Any:
        """Features (b, f) for a linear model, none missing."""
        return self.matrix(values)

    @property
    def categorical(self) -> bool:
        """Whether ``cells`` gives codes of categories, below `CODES`."""
        return False


CODES = 255
"""Most categories of a column that trees take as such."""

_FEATURES: dict[str, Callable[[Input, Codec], Feature]] = {}


def register_feature(kind: str, feature: Callable[[Input, Codec], Feature]) -> None:
    """Say how baselines read a kind of input of `suite.contracts.kinds.KINDS`; the last word counts."""
    _FEATURES[kind] = feature


def has_feature(entry: Input) -> bool:
    """Whether baselines can read an input of this kind."""
    return entry.kind in _FEATURES


def features_of(codec: Codec) -> list[Feature]:
    """A feature for each input of a codec whose kind has one."""
    return [_FEATURES[entry.kind](entry, codec) for entry in codec.inputs if has_feature(entry)]


def column(columns: Columns, name: str, count: int) -> Values:
    """Values (b,) of a column; None for each where it is absent."""
    return columns[name] if name in columns else [None] * count


def size(columns: Columns) -> int:
    """How many records there are."""
    return len(next(iter(columns.values())))
