"""Pairs of records for embeddings: a column beside another one, or two records of a class; and content keys."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.data.class_names import class_name, class_names
from suite.data.preprocessing.columns import some_left
from suite.data.sources.memory import cleaned

PARTNER = "partner"
"""Column of the second record of a pair, where pairs are made of the records of a class."""


class Pairs(Source):
    """Records with a partner each, and their labels by name.

    Args:
        source: n records.
        column: that the partner's value is taken of.
        partners: (n,) place of each record's partner; None: the source holds pairs itself.
        label: column whose values are named; empty: none.
    """

    def __init__(self, source: Source, column: str, partners: np.ndarray | None, label: str):
        self._source, self._column, self._partners, self._label = source, column, partners, label

    def __len__(self) -> int:
        return len(self._source)

    @property
    def schema(self) -> dict[str, str]:
        """That of the source, and the kind of the partner's column."""
        own = dict(self._source.schema)
        if self._partners is not None:
            own[PARTNER] = own[self._column]
        return own

    @property
    def dropped(self) -> dict[str, int]:
        """Those of the source."""
        return self._source.dropped

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        """Those of the source."""
        return self._source.dropped_names

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the source."""
        return self._source.notes

    @property
    def styles(self) -> dict[str, str]:
        """Those of the source."""
        return self._source.styles

    def record_names(self, indices: np.ndarray) -> list[str]:
        return self._source.record_names(indices)

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        columns = dict(self._source[indices])
        if self._label:
            columns[self._label] = names_of(self._source, self._label, columns[self._label])
        if self._partners is not None:
            columns[PARTNER] = self._source.column(self._column, self._partners[np.asarray(indices)])
        return columns

    def column(self, name: str, indices: np.ndarray) -> Any:
        if name == PARTNER and self._partners is not None:
            return self._source.column(self._column, self._partners[np.asarray(indices)])
        values = self._source.column(name, indices)
        return names_of(self._source, name, values) if name == self._label else values


class Renamed(Source):
    """Some columns of another source, under other names.

    Args:
        source: n records.
        names: column -> the source's own name of it.
    """

    def __init__(self, source: Source, names: dict[str, str]):
        self._source, self._names = source, names

    def __len__(self) -> int:
        return len(self._source)

    @property
    def schema(self) -> dict[str, str]:
        """The columns that are renamed."""
        return {name: self._source.schema[own] for name, own in self._names.items()}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {name: self._source.column(own, indices) for name, own in self._names.items()}


def names_of(source: Source, label: str, values: Any) -> list[str]:
    """Labels by the names that the source has for them, or as texts."""
    known = source.classes.get(label)
    return class_names(values) if known is None else [known[value] for value in np.asarray(values).tolist()]


def of_classes(source: Source, column: str, label: str) -> Source:
    """Each record with the next one of its class, the last of a class with its first. A record that is the only one of
    its class has no partner: such records are dropped and counted.

    Args:
        source: records, each with a label.
        column: that is compared.
        label: of the classes.

    Raises:
        InputError: no class has two records.
    """
    names = names_of(source, label, source.column(label, np.arange(len(source))))
    _, places, counts = np.unique(np.array(names, object), return_inverse=True, return_counts=True)
    source = cleaned(source, {f"a {label} that no other record has": counts[places] < 2})
    some_left(source, label, "no two records have the same value, so that none is to be near another.")
    kept = places[counts[places] > 1]
    order = np.argsort(kept, kind="stable")
    starts = np.flatnonzero(np.diff(kept[order], prepend=-1))
    following = np.roll(order, -1)
    following[np.append(starts[1:], len(order)) - 1] = order[starts]
    partners = np.empty(len(order), np.int64)
    partners[order] = following
    return Pairs(source, column, partners, label)


def keys(values: Sequence[bytes]) -> np.ndarray:
    """64 bits (b, 2) int32 of each value: equal where the values are."""
    digests = b"".join(hashlib.blake2b(value, digest_size=8).digest() for value in values)
    return np.frombuffer(digests, "<i4").reshape(-1, 2)


def row_keys(rows: Ragged | np.ndarray) -> np.ndarray:
    """`keys` of encoded rows: of what a model is given, so that texts it cannot tell apart have the same."""
    parts = np.split(rows.values, np.cumsum(rows.lengths)[:-1]) if isinstance(rows, Ragged) else rows
    return keys([np.ascontiguousarray(part).tobytes() for part in parts])


def label_keys(values: Any) -> np.ndarray:
    """`keys` of labels."""
    return keys([class_name(value).encode("utf-8", "surrogatepass") for value in values])
