"""Statistics of the columns of a table, gathered while the training split passes by."""

import shlex
from collections import Counter
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data import written
from suite.data.preprocessing import dates
from suite.data.preprocessing.tabular_columns import Field, Number, logarithm
from suite.data.preprocessing.tabular_values import BOOLEANS, Form, are_numbers, category, is_boolean, items, texts
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError

CHUNK = 32_768
"""Records read at a time."""
MOST_VALUES = 1_000_000
"""A column with more values is hashed, so that no table of them has to be kept."""
LONG_TAIL = 8.0
"""Numbers whose largest lies more deviations than this from the mean are put on a logarithmic scale."""
SAMPLE = 100_000
"""Records that the edges of bins are taken from, evenly spaced."""
_SUMMABLE = 1e150
"""Numbers above it are summed on a smaller scale."""


class Moments:
    """Mean and deviation, chunk by chunk, without the difference of large sums (Chan et al., 1979).

    Numbers so large that their squares overflow have an infinite deviation.
    """

    def __init__(self):
        self.count, self.mean, self.squares, self.low, self.high = 0, 0.0, 0.0, np.inf, -np.inf

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, x: np.ndarray) -> None:
        if not len(x):
            return
        largest = float(np.abs(x).max())
        scale = largest if largest > _SUMMABLE else 1.0
        mean, count = float((x / scale).mean() * scale), self.count + len(x)
        gap = mean - self.mean
        self.squares += float(np.square(x - mean).sum()) + gap * gap * self.count * len(x) / count
        self.mean += gap * len(x) / count
        self.count, self.low, self.high = count, min(self.low, float(x.min())), max(self.high, float(x.max()))

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


class NumberStatistics:
    """Of a column of numbers, or of one part of a column of dates.

    Args:
        source: the training split.
        name: of the column.
        date: format of its dates; empty where it holds numbers.
        part: of `suite.data.preprocessing.dates.PARTS`.
    """

    def __init__(self, source: Source, name: str, date: str = "", part: str = ""):
        self.name = name
        self._source = source
        self._column = Number(name, False, 0.0, 1.0, False, source.styles.get(name, ""), date, part)
        self._plain, self._logs, self._gaps = Moments(), Moments(), False

    def add(self, values: Any) -> None:
        x = self._column.read(values)
        real = x[~np.isnan(x)]
        self._gaps |= len(real) < len(x)
        self._plain.add(real)
        self._logs.add(logarithm(real))

    @property
    def constant(self) -> bool:
        """Whether all values are the same, or missing."""
        return not self._plain.low < self._plain.high

    def number(self, normalise: str, bins: int) -> Number:
        """The column as the model takes it.

        Args:
            normalise: ``"standard"``, ``"log"``, or ``"auto"``: after a logarithm where a tail is long.
            bins: most bins of equally many records; 0: none.

        Raises:
            InputError: the numbers are too large for a deviation.
        """
        plain = self._plain
        huge = not np.isfinite(plain.std)
        tail = plain.std and max(plain.high - plain.mean, plain.mean - plain.low) > LONG_TAIL * plain.std
        log = normalise == "log" or (normalise == "auto" and bool(huge or tail))
        if huge and not log:
            found = f"{plain.low:g} to {plain.high:g}"
            problem = "holds numbers too large for a deviation"
            raise InputError(f"column {self.name}", problem, found=found, fix="--task.fields.normalise log")
        used = self._logs if log else plain
        column = self._column
        number = Number(self.name, log, used.mean, used.std or 1.0, self._gaps, column.style, column.date, column.part)
        return number.with_edges(self._edges(number, bins)) if bins else number

    def _edges(self, number: Number, bins: int) -> np.ndarray:
        values = number.read(self._source.column(self.name, evenly_spaced(self._source, SAMPLE)))
        values = number.scaled(values[~np.isnan(values)])
        distinct = np.unique(values)
        return distinct if len(distinct) <= bins + 1 else np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))


class CategoryStatistics:
    """Of a column of categories, or of lists of them.

    Args:
        source: the training split.
        name: of the column.
        several: whether it holds lists.
        separator: between the items of a list.
        rows: that its values share by their hash; 0: each has its own.

    Attributes:
        form: what its values are taken for.
    """

    def __init__(self, source: Source, name: str, several: bool, separator: str, rows: int):
        self.name, self.rows, self.several, self._separator = name, rows, several, separator
        self._style = source.styles.get(name, "")
        first = source.column(name, np.arange(min(len(source), CHUNK)))
        number = source.schema[name] != "text" or self._style == written.DIGITS or are_numbers(first)
        self.form: Form = "number" if number and not several else "text"
        self._seen: set[str] = set()  # some values, until they are not all booleans
        self.blanks = 0
        self._counts: Counter[str] = Counter()
        self._length = 1
        if 0 < rows < 3:
            raise InputError("field task.fields.hashed", "a hashed column needs at least 3 rows", found=str(rows))

    def add(self, values: Any) -> None:
        if not isinstance(values, np.ndarray):
            self.blanks += sum(isinstance(value, str) and value != value.strip() for value in values)
        if self.several:
            rows = items(values, self._separator, self.form)
            self._length = max(self._length, *(len(row) for row in rows))
            values_seen = [item for row in rows for item in set(row)]
        else:
            values_seen = [value for value in texts(values, self.form) if value is not None]
        if len(self._seen) <= len(BOOLEANS):
            self._seen.update(values_seen)
        if not self.rows:
            self._counts.update(values_seen)
            if len(self._counts) > MOST_VALUES:
                self.rows, self._counts = MOST_VALUES, Counter()

    def field(self, start: int, min_count: int, longest: int) -> Field:
        """The column as the model takes it.

        Args:
            start: its first row of the table.
            min_count: records below which a value has no row of its own.
            longest: items that a list is cut at.
        """
        length = min(self._length, longest) if self.several else 0
        form: Form = "boolean" if self.form == "text" and is_boolean(self._seen) else self.form
        if self.rows:
            return Field(self.name, start, self.rows, (), length, form, self._style)
        counts: Counter[str] = Counter()
        for value, count in self._counts.items():
            counts[category(value, form) or value] += count
        frequent = ((value, count) for value, count in counts.items() if count >= min_count)
        values = tuple(value for value, _ in sorted(frequent, key=lambda pair: (-pair[1], pair[0])))
        return Field(self.name, start, 2 + len(values), values, length, form, self._style)


def of_dates(source: Source, name: str) -> list[NumberStatistics]:
    """Statistics of all parts of a column of dates.

    Raises:
        InputError: the column holds no dates of one format.
    """
    form, _ = dates.judged(source.column(name, evenly_spaced(source, SAMPLE)))
    if not form:
        value, flag = source.column(name, np.arange(1))[0], shlex.join(["--task.fields.categorical", name])
        raise InputError(
            f"column {name}",
            "holds no dates of one format",
            found=f"{value!r:.60}",
            fix=f"write dates as 2024-05-31; or, where they are categories: {flag}",
        )
    return [NumberStatistics(source, name, form, part) for part in dates.PARTS]
