"""Folds: the records of training and validation in k parts, each of which is held out once."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.class_names import class_names, too_many
from suite.data.inspection import CHUNK, content_hashes
from suite.data.preprocessing.columns import origin
from suite.data.sources.memory import Subset, hash_places, not_empty
from suite.errors import InputError


class Joined(Source):
    """The records of several sources of the same columns, one source after the other."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._starts = np.cumsum([0, *map(len, sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def schema(self) -> dict[str, str]:
        """That of the first source."""
        return self._sources[0].schema

    @property
    def classes(self) -> dict[str, list[str]]:
        """Those of the first source."""
        return self._sources[0].classes

    @property
    def styles(self) -> dict[str, str]:
        """Those of the first source."""
        return self._sources[0].styles

    @property
    def dropped(self) -> dict[str, int]:
        """The most that a source says of each reason: sources of one file count the same records."""
        counts: Counter[str] = Counter()
        for source in self._sources:
            counts |= Counter(source.dropped)
        return dict(counts)

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        return {reason: names for source in self._sources for reason, names in source.dropped_names.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for source in self._sources for note in source.notes))

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {name: self.column(name, indices) for name in self.schema}

    def column(self, name: str, indices: np.ndarray) -> Any:
        indices = np.asarray(indices)
        which = np.searchsorted(self._starts, indices, side="right") - 1
        parts: dict[int, tuple[np.ndarray, Any]] = {}
        for place, source in enumerate(self._sources):
            rows = np.flatnonzero(which == place)
            if len(rows) or not parts:
                parts[place] = rows, source.column(name, indices[rows] - self._starts[place])
        if all(isinstance(values, np.ndarray) for _, values in parts.values()):
            order = np.argsort(np.concatenate([rows for rows, _ in parts.values()]), kind="stable")
            return np.concatenate([values for _, values in parts.values()])[order]
        taken: list[Any] = [None] * len(indices)
        for rows, values in parts.values():
            for row, value in zip(rows.tolist(), values, strict=True):
                taken[row] = value
        return taken


@dataclass(frozen=True, kw_only=True)
class Fold(Data):
    """One of k ways to part the records of training and validation; the test split stays what it is.

    Equal records are in one part, and each part has its share of each class where the records have classes.
    """

    data: Data
    """Where the records come from."""
    fold: int
    """Which part is held out as validation, from 0."""
    folds: int
    """How many parts there are."""
    seed: int = 0
    """Seeds the parts."""
    by: str = ""
    """Column of classes; empty: there are none."""

    @property
    def origin(self) -> str:
        return origin(self.data)

    def with_classes(self, column: str) -> "Fold":
        return replace(self, data=self.data.with_classes(column), by=self.by or column)

    def with_texts(self, columns: tuple[str, ...]) -> "Fold":
        return replace(self, data=self.data.with_texts(columns))

    def with_json(self, columns: tuple[str, ...]) -> "Fold":
        return replace(self, data=self.data.with_json(columns))

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: fewer records than folds, or no such split.
        """
        if split == "test":
            return self.data.open(split)
        source = Joined([self.data.open("train"), self.data.open("validation")])
        if not 2 <= self.folds <= len(source):
            found = f"{self.folds} folds of {len(source):,} records"
            raise InputError(
                "flag --folds", "must be 2 or more, and at most the records.", found=found, fix="--folds 5"
            )
        held_out = self._parts(source) == self.fold
        return not_empty(Subset(source, np.flatnonzero(held_out == (split == "validation"))), split, self.origin)

    def _parts(self, source: Source) -> np.ndarray:
        """(n,) which part each record is in: the classes are dealt out one after the other, in the order of a hash."""
        keys: list[bytes] = []
        for start in range(0, len(source), CHUNK):
            columns = source[np.arange(start, min(start + CHUNK, len(source)))]
            keys += content_hashes([columns[name] for name in sorted(columns)])
        first: dict[Hashable, int] = {}
        group = np.array([first.setdefault(key, place) for place, key in enumerate(keys)], np.int64)
        order = np.array(list(first.values()), np.int64)
        order = order[np.argsort(hash_places([keys[place] for place in order], self.seed), kind="stable")]
        if self.by in source.schema:
            names = class_names(source.column(self.by, order))
            if not too_many(len(set(names)), len(names)):
                order = order[np.argsort(names, kind="stable")]
        part = np.zeros(len(source), np.int64)
        part[order] = np.arange(len(order)) % self.folds
        return part[group]
