"""Columns of a table as the model takes them: numbers, dates, categories and lists. Dims: b records."""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.data.preprocessing import dates
from suite.data.preprocessing.tabular_values import Form, numbers

UNSEEN, MISSING = 0, 1
"""Rows that each field begins with: of values that were rare or absent in training, and of no value."""
NO_ROW = -1
"""The id that fills up a list; no row is read or changed for it."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Number:
    """A column of numbers: ``(f(x) - mean) / std``, f being the identity or ``sign(x) log(1 + |x|)``.

    Attributes:
        name: of the column.
        log: whether f is the logarithm.
        mean: of f(x).
        std: deviation of f(x), 1 where it is 0.
        gaps: whether an indicator of missing values goes with it; a missing value itself becomes 0, the mean.
        style: how texts write the numbers, of `suite.data.written.STYLES`.
        date: the format, of `suite.data.preprocessing.dates`, where the column holds dates.
        part: the number of a date that this is, of `suite.data.preprocessing.dates.PARTS`.
        edges: of the bins that a model may tell the values apart by, rising, on the scale of what ``encode`` gives.
    """

    name: str
    log: bool
    mean: float
    std: float
    gaps: bool
    style: str = ""
    date: str = ""
    part: str = ""
    edges: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Columns of ``encode``: the value, and the indicator where there is one."""
        return 1 + self.gaps

    def read(self, values: Any) -> np.ndarray:
        """The values as float64 (b,), nan where one is missing.

        Raises:
            InputError: one is no number, or no date.
        """
        if self.part:
            return dates.numbers(values, self.date, self.part, self.name)
        return numbers(values, self.name, self.style)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """``(f(x) - mean) / std``, within what float32 holds."""
        with np.errstate(over="ignore"):
            scaled = ((logarithm(x) if self.log else x) - self.mean) / self.std
        return np.clip(scaled, -_LARGEST, _LARGEST)

    @property
    def places(self) -> int:
        """Values of ``place``."""
        return len(self.edges) + 1

    def place(self, values: Any) -> np.ndarray:
        """The bin of each value (b,) int32, from 1 on; 0 where it is missing."""
        x = self.scaled(self.read(values)).astype(np.float32)
        return np.where(np.isnan(x), 0, 1 + np.searchsorted(self.edges[1:], x, side="right")).astype(np.int32)

    def with_edges(self, edges: np.ndarray) -> "Number":
        """The same column with bins between these edges."""
        return replace(self, edges=tuple(np.asarray(edges, np.float32).tolist()))

    def encode(self, values: Any) -> np.ndarray:
        """(b, 1) or, with the indicator, (b, 2) float32."""
        x = self.read(values)
        missing = np.isnan(x)
        scaled = np.where(missing, 0.0, self.scaled(x))
        columns = [scaled, missing] if self.gaps else [scaled]
        return np.stack(columns, -1).astype(np.float32)


@dataclass(frozen=True)
class Field:
    """A column of categories, or of lists of them, and its rows of the table.

    Attributes:
        name: of the column.
        start: its first row; then come ``UNSEEN``, ``MISSING`` and one row a value.
        size: its rows.
        values: the values that have a row of their own, in the order of their rows; none where they are hashed.
        length: most items of a list; 0 for a single category.
        form: what its values are, by which a value is the same however it is written.
        style: how its numbers are written, of `suite.data.written.STYLES`.
        of: of a history, the column of single values whose rows its items have; empty where the rows are its own.
    """

    name: str
    start: int
    size: int
    values: tuple[str, ...] = ()
    length: int = 0
    form: Form = ""
    style: str = ""
    of: str = ""

    @property
    def hashed(self) -> bool:
        """Whether values share rows by their hash."""
        return not self.values and self.size > 2

    @functools.cached_property
    def _places(self) -> dict[str | None, int]:
        return {None: self.start + MISSING, **{v: self.start + 2 + i for i, v in enumerate(self.values)}}

    def rows(self, values: Sequence[str | None]) -> np.ndarray:
        """Row of the table (b,) int32 of each value."""
        if not self.hashed:
            places, unseen = self._places, self.start + UNSEEN
            return np.fromiter((places.get(value, unseen) for value in values), np.int32, len(values))
        buckets = {value: self._bucket(value) for value in set(values)}
        return np.fromiter(map(buckets.__getitem__, values), np.int32, len(values))

    def _bucket(self, value: str | None) -> int:
        if value is None:
            return self.start + MISSING
        key = f"{self.of or self.name}\x1f{value}"
        return self.start + 2 + zlib.crc32(key.encode("utf-8", "surrogatepass")) % (self.size - 2)

    def lists(self, values: Sequence[list[str]], mean: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows (b, length) and weights (b, length) of the first items of each list; no items: ``MISSING``. Of a
        history the last items, which are the latest; of none all weights are 0."""
        lists: list[list[Any]] = [self._kept(row) for row in values]
        lengths = np.array([len(row) for row in lists], np.int64)
        real = np.arange(self.length) < lengths[:, None]
        ids = np.full(real.shape, NO_ROW, np.int32)
        ids[real] = self.rows([item for row in lists for item in row])
        return ids, (real / np.maximum(lengths, 1)[:, None] if mean else real).astype(np.float32)

    def _kept(self, row: list[str]) -> list[Any]:
        return row[-self.length :] if self.of else row[: self.length] or [None]


def logarithm(x: np.ndarray) -> np.ndarray:
    """``sign(x) log(1 + |x|)``."""
    return np.sign(x) * np.log1p(np.abs(x))
