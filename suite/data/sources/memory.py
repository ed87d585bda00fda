"""Records in memory, views of a source, and splits that depend on nothing but a record and a seed."""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.cache import Packed
from suite.data.notes import told
from suite.data.sources.split_names import ALIASES, SPLITS, split_of
from suite.errors import InputError, MissingSplit, closest

__all__ = ["ALIASES", "SPLITS", "LeftOut", "Memory", "Stacked", "Subset", "cleaned", "evenly_spaced", "kind_of", "take"]
__all__ += [
    "WithTexts",
    "carves_validation",
    "check_split",
    "named_part",
    "named_split",
    "not_empty",
    "noted",
    "seeded_split",
]

NAMED = 3
"""Records named of those left out for one reason."""


class LeftOut:
    """What reading leaves out: reason -> how many, and what the first few are called."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str = "", count: int = 1) -> None:
        """One more, or ``count`` more, for ``reason``."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        if name and len(named := self.names.setdefault(reason, [])) < NAMED:
            named.append(name)

    def clear(self) -> None:
        """Begin anew, as where a file is read again."""
        self.counts.clear()
        self.names.clear()

    def lines(self) -> list[str]:
        """Each reason with its count and names, for people."""
        return told(self.counts, self.names)


def evenly_spaced(source: Sized, most: int) -> np.ndarray:
    """Places (n,) int64 of at most ``most`` records, evenly spaced from the first on."""
    count = min(most, len(source))
    return np.arange(count) * len(source) // max(count, 1)


def take(column: Any, indices: np.ndarray) -> Any:
    """Entries of a column at ``indices`` (b,): one gather for arrays, a list for everything else."""
    if isinstance(column, np.ndarray):
        return column.take(indices, axis=0)  # copies whole rows, where an index copies by element
    if isinstance(column, Packed):
        return column[indices]
    return [column[i] for i in indices.tolist()]


def kind_of(column: Any) -> str:
    """What a column holds, judged by its type: ``"text"``, ``"image"``, ``"int"`` or ``"float"``."""
    if not isinstance(column, np.ndarray) or column.dtype.kind in "OUS":
        return "text"
    if column.dtype == np.uint8 and column.ndim >= 3:
        return "image"
    return "float" if column.dtype.kind == "f" else "int"


class _Noting(Source):
    """A source that keeps what reading left out, guessed and changed."""

    def _note(
        self, dropped: Mapping[str, int], dropped_names: Mapping[str, Sequence[str]], notes: Sequence[str]
    ) -> None:
        self._dropped = {reason: count for reason, count in dropped.items() if count}
        self._dropped_names = {reason: list(names) for reason, names in dropped_names.items()}
        self._notes = tuple(notes)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of records left out."""
        return self._dropped

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        """Reason -> what the first records left out are called."""
        return self._dropped_names

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or changed on reading."""
        return self._notes


class Memory(_Noting):
    """Records held in memory, or mapped into it, column by column.

    Args:
        columns: name -> array (n, ...), list of n entries, or packed strings.
        schema: name -> kind; left out, it is judged by the columns' types.
        classes: names of the values of ``"class"`` columns.
        dropped: reason -> number of records left out on reading.
        dropped_names: reason -> what the first of them are called.
        notes: what was guessed or changed on reading, a sentence each.
        styles: how the numbers of a column were written, where that is not the usual way.

    Raises:
        InputError: columns of different lengths.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        schema: Mapping[str, str] | None = None,
        classes: Mapping[str, Sequence[str]] | None = None,
        dropped: Mapping[str, int] | None = None,
        dropped_names: Mapping[str, Sequence[str]] | None = None,
        notes: Sequence[str] = (),
        styles: Mapping[str, str] | None = None,
    ):
        self._columns = dict(columns)
        self._schema = dict(schema) if schema else {name: kind_of(values) for name, values in columns.items()}
        self._classes = {name: list(names) for name, names in (classes or {}).items()}
        self._note(dropped or {}, dropped_names or {}, notes)
        self._styles = dict(styles or {})
        lengths = {name: len(values) for name, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError("data", "columns have different lengths", found=str(lengths))
        self._length = next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self._length

    @property
    def schema(self) -> dict[str, str]:
        """Column name -> kind."""
        return self._schema

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of class columns."""
        return self._classes

    @property
    def styles(self) -> dict[str, str]:
        """How the numbers of a column were written, where that is not the usual way."""
        return self._styles

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        indices = np.asarray(indices)
        return {name: take(column, indices) for name, column in self._columns.items()}

    def column(self, name: str, indices: np.ndarray) -> Any:
        return take(self._columns[name], np.asarray(indices))


class Subset(_Noting):
    """Some records of another source, in the order of ``indices`` (n,).

    ``dropped`` holds all that was left out, the source's own included; left out, it is the source's. So do
    ``dropped_names`` and ``notes``.
    """

    def __init__(
        self,
        source: Source,
        indices: np.ndarray,
        dropped: Mapping[str, int] | None = None,
        dropped_names: Mapping[str, Sequence[str]] | None = None,
        notes: Sequence[str] | None = None,
    ):
        self._source = source
        self._indices = np.asarray(indices)
        self._note(
            source.dropped if dropped is None else dropped,
            source.dropped_names if dropped_names is None else dropped_names,
            source.notes if notes is None else notes,
        )

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def schema(self) -> dict[str, str]:
        """Column name -> kind, as in the whole source."""
        return self._source.schema

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of class columns, as in the whole source."""
        return self._source.classes

    def record_names(self, indices: np.ndarray) -> list[str]:
        return self._source.record_names(self._indices[np.asarray(indices)])

    @property
    def styles(self) -> dict[str, str]:
        """How numbers were written, as in the whole source."""
        return self._source.styles

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return self._source[self._indices[np.asarray(indices)]]

    def column(self, name: str, indices: np.ndarray) -> Any:
        return self._source.column(name, self._indices[np.asarray(indices)])


class WithTexts(Subset):
    """A source with other values in one column, which are texts.

    Args:
        source: n records.
        name: of the column.
        values: (n,) what it holds instead.
    """

    def __init__(self, source: Source, name: str, values: Sequence[Any]):
        super().__init__(source, np.arange(len(source)))
        self._name, self._values = name, values

    @property
    def schema(self) -> dict[str, str]:
        """Column name -> kind."""
        return {**super().schema, self._name: "text"}

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of class columns, but for the one that holds texts now."""
        return {name: names for name, names in super().classes.items() if name != self._name}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {**super().__getitem__(indices), self._name: self.column(self._name, indices)}

    def column(self, name: str, indices: np.ndarray) -> Any:
        if name != self._name:
            return super().column(name, indices)
        return [self._values[place] for place in np.asarray(indices).tolist()]


def cleaned(
    source: Source,
    faults: Mapping[str, np.ndarray],
    named: Callable[[np.ndarray], Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> Source:
    """The records without a fault; the others are dropped, counted and named by the first fault they have.

    Args:
        source: n records.
        faults: reason -> (n,) bool, the records that have it.
        named: places (b,) -> what the records there are called; by default `Source.record_names`.
        notes: lines to add to the source's own.
    """
    bad, left = np.zeros(len(source), bool), LeftOut()
    left.counts.update(source.dropped)
    left.names.update({reason: list(names) for reason, names in source.dropped_names.items()})
    for reason, fault in faults.items():
        places = np.flatnonzero(fault & ~bad)
        if len(places):
            first = (named or source.record_names)(places[:NAMED])
            left.add(reason, count=len(places) - len(first))
            for name in first:
                left.add(reason, name)
        bad |= fault
    if not bad.any() and not notes:
        return source
    return Subset(source, np.flatnonzero(~bad), left.counts, left.names, (*source.notes, *notes))


def noted(source: Source, notes: Sequence[str]) -> Source:
    """The source with more notes."""
    return Subset(source, np.arange(len(source)), notes=(*source.notes, *notes)) if notes else source


def named_part(source: Source, part: np.ndarray, split: str) -> Source:
    """The records of a split that is named record by record; those that name none are dropped and counted.

    Args:
        source: n records.
        part: (n,) position of each record's split in ``SPLITS``, -1 where it names none.
        split: which one.
    """
    elsewhere = (part != SPLITS.index(split)) & (part >= 0)
    left = cleaned(source, {"names no split": part < 0})
    return Subset(source, np.flatnonzero(~elsewhere & (part >= 0)), left.dropped, left.dropped_names)


class Stacked(Source):
    """Several columns of another source as one: all entries of the first, then all of the second.

    What is learnt from texts is learnt so from the texts of both languages of a translation.
    """

    def __init__(self, source: Source, columns: Sequence[str]):
        self._source, self._columns = source, tuple(columns)

    def __len__(self) -> int:
        return len(self._source) * len(self._columns)

    @property
    def schema(self) -> dict[str, str]:
        """The first column's name and kind."""
        return {self._columns[0]: self._source.schema[self._columns[0]]}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        which, rows = np.divmod(np.asarray(indices), len(self._source))
        values: list[Any] = [None] * len(rows)
        for place, name in enumerate(self._columns):
            wanted = np.flatnonzero(which == place)
            for at, value in zip(wanted.tolist(), self._source.column(name, rows[wanted]), strict=True):
                values[at] = value
        return {self._columns[0]: values}


def named_split(names: Sequence[Any]) -> np.ndarray:
    """Position in ``SPLITS`` of each name of a split (`split_of`), (n,) int8; -1 where it names none."""
    known = {name: split_of(name) for name in {str(name) for name in names}}
    return np.array([SPLITS.index(known[str(name)]) if known[str(name)] else -1 for name in names], np.int8)


def seeded_split(keys: Sequence[bytes | str | int], seed: int, fractions: tuple[float, float]) -> np.ndarray:
    """Split of each key, by a hash of the key and the seed alone: equal keys share a split, whatever else is there.

    Args:
        keys: n record identities.
        seed: another seed is another split.
        fractions: shares of validation and of test.

    Returns:
        (n,) int8: 0 train, 1 validation, 2 test (positions in ``SPLITS``).

    Raises:
        InputError: fractions outside 0..1, or nothing left to train on.
    """
    validation, test = fractions
    if min(fractions) < 0 or validation + test >= 1:
        raise InputError(
            "validation and test fractions", "must be at least 0 and sum to less than 1", found=f"{validation}, {test}"
        )
    place = hash_places(keys, seed)
    return np.where(place < validation, 1, np.where(place < validation + test, 2, 0)).astype(np.int8)


def hash_places(keys: Sequence[bytes | str | int], seed: int) -> np.ndarray:
    """Place of each key between 0 and 1, (n,) float64: even, and by nothing but the key and the seed."""
    salt = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    digests = b"".join(hashlib.blake2b(_as_bytes(key), digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(digests, "<u8") / 2.0**64


def _as_bytes(key: bytes | str | int) -> bytes:
    if isinstance(key, bytes):
        return key
    return str(key).encode("utf-8", "surrogatepass")


def check_split(split: str, where: str, known: Sequence[str] = SPLITS) -> None:
    """Raises MissingSplit where ``split`` is not among ``known``."""
    if split not in known:
        near = closest(split, known) or next(iter(known), "")
        fix = f"use '{near}'" if near else ""
        raise MissingSplit(where, f"there is no split '{split}'", found=", ".join(known) or "no split at all", fix=fix)


def carves_validation(split: str, given: Sequence[str], validation: float, where: str) -> bool:
    """Whether validation is a share of train, data having the splits ``given`` and none of that name.

    Raises:
        InputError: ``split`` is neither given nor carved.
    """
    carving = "validation" not in given and validation > 0
    check_split(split, where, [*given, *(["validation"] if carving else [])])
    return carving


def not_empty(source: Source, split: str, where: str, fix: str = "") -> Source:
    """The source itself.

    Raises:
        InputError: it holds no record.
    """
    if not len(source):
        dropped = ", ".join(f"{count} dropped as {reason}" for reason, count in source.dropped.items())
        raise MissingSplit(where, f"the {split} split is empty", found=dropped or "0 records", fix=fix)
    return source
