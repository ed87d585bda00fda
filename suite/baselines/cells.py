"""Columns of a table as a baseline reads them: numbers, categories and lists, by the codec's judgement of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.baselines.features import CODES, Feature, Values, column, register_feature, size
from suite.contracts.baseline import Rows
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.contracts.signature import Input
from suite.data.preprocessing import dates
from suite.data.preprocessing.tabular_values import items, numbers, text

ITEMS = 100
"""Most frequent items of lists that have a column of their own."""
BINS = 16
"""Quantiles that a number is cut at for a linear model."""


class Numbers(Feature):
    """A number, nan where it is missing; for a linear model the quantile that it lies in."""

    form = "cells"

    def __init__(self, entry: Input, codec: Codec):
        super().__init__(entry, codec)
        self._style = codec.styles.get(entry.name, "")

    def read(self, columns: Columns, rows: Rows) -> np.ndarray:
        return numbers(column(columns, self.name, size(columns)), self.name, self._style)

    def fit(self, values: Values) -> str:
        known = np.asarray(values, np.float64)
        known = known[np.isfinite(known)]
        self._edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.zeros(0)
        return ""

    def matrix(self, values: Values) -> np.ndarray:
        return np.asarray(values, np.float64)[:, None]

    def counts(self, values: Values) -> Any:
        from scipy.sparse import csr_matrix

        x = np.asarray(values, np.float64)
        above = np.nan_to_num(x)[:, None] > self._edges
        return csr_matrix(
            np.concatenate([above & np.isfinite(x)[:, None], ~np.isfinite(x)[:, None]], 1), dtype=np.float32
        )


class Dates(Feature):
    """The numbers of a date, such as its year and its weekday."""

    form = "cells"

    def __init__(self, entry: Input, codec: Codec):
        super().__init__(entry, codec)
        stated = getattr(getattr(codec, "fields", None), "numbers", ())
        self._format = next((number.date for number in stated if number.name == entry.name and number.date), dates.ISO)
        self._parts = {part: Numbers(entry, codec) for part in dates.PARTS}

    def read(self, columns: Columns, rows: Rows) -> np.ndarray:
        values = column(columns, self.name, size(columns))
        return np.stack([dates.numbers(values, self._format, part, self.name) for part in self._parts], 1)

    def fit(self, values: Values) -> str:
        for place, part in enumerate(self._parts.values()):
            part.fit(np.asarray(values)[:, place])
        return ""

    def matrix(self, values: Values) -> np.ndarray:
        return np.asarray(values, np.float64).reshape(len(values), len(self._parts))

    def counts(self, values: Values) -> Any:
        from scipy.sparse import hstack

        table = self.matrix(values)
        return hstack([part.counts(table[:, place]) for place, part in enumerate(self._parts.values())], format="csr")


class Categories(Feature):
    """A category by its code, the most frequent first; of a column with more than `CODES` how frequent it is, too."""

    form = "cells"

    def read(self, columns: Columns, rows: Rows) -> Sequence[str]:
        return [text(value) or "" for value in column(columns, self.name, size(columns))]

    def fit(self, values: Values) -> str:
        self._counts: Counter[str] = Counter(values)
        self._codes = {value: place for place, (value, _) in enumerate(_ranked(self._counts))}
        return ""

    @property
    def categorical(self) -> bool:
        return len(self._codes) < CODES

    def matrix(self, values: Values) -> np.ndarray:
        codes = np.array([self._codes.get(value, np.nan) for value in values], np.float64)[:, None]
        if self.categorical:
            return codes
        return np.concatenate([codes, [[self._counts[value]] for value in values]], 1)

    def counts(self, values: Values) -> Any:
        return _indicators([[value] for value in values], self._codes)


class Lists(Feature):
    """Which of the most frequent items a list has, and how many it has."""

    form = "cells"

    def __init__(self, entry: Input, codec: Codec):
        super().__init__(entry, codec)
        self._separator = getattr(getattr(codec, "fields", None), "separator", "|")

    def read(self, columns: Columns, rows: Rows) -> Sequence[list[str]]:
        return items(column(columns, self.name, size(columns)), self._separator)

    def fit(self, values: Values) -> str:
        ranked = _ranked(Counter(item for row in values for item in set(row)))
        self._codes = {value: place for place, (value, _) in enumerate(ranked[:ITEMS])}
        return f"{self.name}: the {ITEMS} most frequent of {len(ranked):,} items" if len(ranked) > ITEMS else ""

    def matrix(self, values: Values) -> np.ndarray:
        lengths = np.array([[len(row)] for row in values], np.float64)
        return np.concatenate([_indicators(values, self._codes).toarray(), lengths], 1)

    def counts(self, values: Values) -> Any:
        return _indicators(values, self._codes)


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Values with their counts, the most frequent first and equal ones by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _indicators(values: Sequence[Sequence[str]], codes: dict[str, int]) -> Any:
    """Sparse (b, codes): 1 where a record has a value."""
    from scipy.sparse import csr_matrix

    places = [[codes[value] for value in dict.fromkeys(row) if value in codes] for row in values]
    ends = np.cumsum([0, *map(len, places)])
    flat = np.array([place for row in places for place in row], np.int64)
    return csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=(len(places), max(len(codes), 1)))


register_feature("number", Numbers)
register_feature("date", Dates)
register_feature("category", Categories)
register_feature("list", Lists)
