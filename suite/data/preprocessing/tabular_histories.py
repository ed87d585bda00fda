"""Histories: lists of earlier items that share the rows of the column of candidates. Dims: b records."""

import shlex
from collections import Counter
from typing import Any

from suite.data.preprocessing.tabular_columns import Field
from suite.data.preprocessing.tabular_statistics import MOST_VALUES, CategoryStatistics
from suite.data.preprocessing.tabular_values import items
from suite.errors import InputError


class HistoryStatistics:
    """Of a column of histories, gathered while the training split passes by.

    Args:
        name: of the column.
        candidate: of the column whose values the items are, and whose rows of the table they have.
        separator: between the items of a history that is written as a text.
    """

    def __init__(self, name: str, candidate: CategoryStatistics, separator: str):
        self.name, self._candidate, self._separator = name, candidate, separator
        self._items: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()

    def add(self, values: Any) -> None:
        rows = items(values, self._separator, self._candidate.form)
        self._lengths.update(map(len, rows))
        if len(self._items) <= MOST_VALUES:
            self._items.update(item for row in rows for item in row)

    def field(self, candidate: Field, longest: int) -> Field:
        """The column as the model takes it.

        Args:
            candidate: the fitted column of candidates.
            longest: most items that are read.

        Raises:
            InputError: there is no item, or none is a candidate's.
        """
        self._check(candidate)
        length = max(min(max(self._lengths), longest), 1)
        return Field(
            self.name,
            candidate.start,
            candidate.size,
            candidate.values,
            length,
            candidate.form,
            candidate.style,
            candidate.name,
        )

    def _check(self, candidate: Field) -> None:
        if not self._items:
            raise InputError(f"column {self.name}", "no training record has a history.", fix="name another column")
        if not candidate.hashed and not set(candidate.values) & self._items.keys():
            first = next(iter(self._items))
            sign = next((sign for sign in (" ", ",", ";", "|") if sign in first), "")
            another = "name the column whose values the items are: --task.fields.histories"
            raise InputError(
                f"column {self.name}",
                f'no item of a history is a value of column "{candidate.name}" that two training records have.',
                found=f"{first!r:.60}",
                fix=shlex.join(["--task.fields.separator", sign]) if sign else another,
            )

    def told(self, candidate: Field, longest: int) -> str:
        """How long histories are, how many are cut, and how many items have no row of their own, for a person."""
        records, events = self._lengths.total(), self._items.total()
        mean = sum(length * count for length, count in self._lengths.items()) / max(records, 1)
        cut = sum(count for length, count in self._lengths.items() if length > longest)
        line = (
            f"column {self.name}: items of column {candidate.name}, {mean:.1f} a record; {self._lengths[0]:,} of "
            f"{records:,} records have none, {cut:,} have more than the latest {longest} that are read"
        )
        known = set(candidate.values)
        strange = 0 if candidate.hashed else sum(count for item, count in self._items.items() if item not in known)
        return f"{line}; {strange / events:.1%} of the items share the row of rare ones"
