"""Attributes: what a table says of users or of items, as a weighted bag of rows of one table of vectors.

Each value of a category, item of a list, word of a text and range of a number is a token. Its weight is its inverse
document frequency; the weights of a column's tokens have length 1 together, as in the cosine of tf-idf.

Dims: b records, s tokens of a record.
"""

import functools
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.preprocessor import Preprocessor, padded_rows
from suite.data.notes import told
from suite.data.preprocessing import tabular_values
from suite.data.preprocessing.columns import origin
from suite.data.preprocessing.tabular_schema import Guess, Kind, guess
from suite.data.reading import changed
from suite.data.sources.files import from_path
from suite.data.sources.item_columns import read_items
from suite.errors import InputError, closest
from suite.runtime import json_files

CHUNK = 4096
"""Records read at a time."""
READ: dict[Kind, str] = {
    "categorical": "category",
    "list": "list",
    "text": "text",
    "dense": "number",
    "both": "category",
}
"""What a column that is judged so is read as; others are not."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Column:
    """A column that is read.

    Attributes:
        name: of the column.
        kind: ``"category"``, ``"list"``, ``"text"`` or ``"number"``.
        edges: between the ranges of a number, rising.
    """

    name: str
    kind: str
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Attributes(Preprocessor):
    """What a table says of users, or of items, a record each; nothing where no table is named.

    Columns that are named nowhere are judged as those of a table are; ``fit`` prints what each is taken for.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "item"
    """Field of the task that names the column of users or items in the events: also that of the table, unless ``id``
    names another."""
    path: str = ""
    """The table: any file that data are read from. Empty: there is none."""
    data: Data | None = None
    """The table, where it is no file. None: ``path``."""
    id: str = ""
    """Column of the table that names users or items as the events do. Empty: that of the events."""
    categories: tuple[str, ...] = ()
    """Columns of one value a record."""
    lists: tuple[str, ...] = ()
    """Columns of several values a record, such as tags and genres."""
    texts: tuple[str, ...] = ()
    """Columns of texts, of which the words are read."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers, of which ranges are read."""
    ignored: tuple[str, ...] = ()
    """Columns that are not read."""
    infer: bool = True
    """Judge columns that are named nowhere; otherwise they are not read."""
    separator: str = "|"
    """What parts the values of a list that is written as a text."""
    min_count: int = 2
    """Records of the table below which a value is not read."""
    most: int = 200_000
    """Most tokens to keep: those of the most records."""
    ranges: int = 8
    """Ranges of a number, of equally many records each."""
    axis: str = "attributes"
    """Axis of the batch that tokens run along."""

    @property
    def given(self) -> bool:
        """Whether there is a table."""
        return bool(self.path) or self.data is not None

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Reads the table, prints what its columns are taken for, and writes tokens and records to ``path``.

        Raises:
            InputError: a column is not there, or nothing is left to read.
        """
        content: dict[str, Any] = {
            "columns": [],
            "names": [],
            "tokens": [],
            "of": [],
            "idf": [],
            "lengths": [],
            "rows": [],
        }
        if self.given:
            content = self._learnt(column)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _table(self, column: str) -> tuple[Source, str]:
        """The table, a record a name, and the name of its column of names."""
        name = self.id or column
        return read_items(self.data or from_path(self.path), name, f"{self._field}.id"), name

    def described(self, column: str) -> list[str]:
        """Names of what the table describes, read from it; ``column`` is that of the events."""
        return _named(*self._table(column)) if self.given else []

    def _learnt(self, column: str) -> dict[str, Any]:
        table, name = self._table(column)
        where = self.path or (self.data and origin(self.data)) or "the table"
        columns = self._columns(table, name)
        names = _named(table, name)
        counts: list[Counter[str]] = [Counter() for _ in columns]
        tokens: list[list[list[str]]] = [[] for _ in columns]
        for start in range(0, len(names), CHUNK):
            places = np.arange(start, min(start + CHUNK, len(names)))
            for place, read in enumerate(columns):
                found = self._tokens(read, table.column(read.name, places))
                tokens[place] += found
                for row in found:
                    counts[place].update(row)
        kept = sorted(
            (
                (count, place, token)
                for place, each in enumerate(counts)
                for token, count in each.items()
                if count >= self.min_count
            ),
            key=lambda one: (-one[0], one[1:]),
        )[: self.most]
        if not kept:
            raise InputError(
                where,
                f"no value of its columns is that of {self.min_count} records: there is nothing to learn from.",
                found=", ".join(read.name for read in columns) or "no column that is read",
                fix=f"--task.{self._field}.lists COLUMN",
            )
        rows = {(place, token): row for row, (_, place, token) in enumerate(kept)}
        records = [
            sorted(
                rows[place, token]
                for place in range(len(columns))
                for token in tokens[place][record]
                if (place, token) in rows
            )
            for record in range(len(names))
        ]
        for line in told(table.dropped, table.dropped_names):
            print(f"{where}: {line}", file=sys.stderr)
        print(
            f"{where}: {len(names):,} records, {len(rows):,} values that {self.min_count} or more have; "
            f"{sum(not row for row in records):,} records have none of them",
            file=sys.stderr,
        )
        return {
            "columns": [{"name": read.name, "kind": read.kind, "edges": list(read.edges)} for read in columns],
            "names": names,
            "tokens": [token for _, _, token in kept],
            "of": [place for _, place, _ in kept],
            "idf": [round(float(np.log((1 + len(names)) / (1 + count)) + 1), 6) for count, _, _ in kept],
            "lengths": list(map(len, records)),
            "rows": [row for record in records for row in record],
        }

    @property
    def _field(self) -> str:
        return f"{self.column}_attributes"

    def _columns(self, table: Source, name: str) -> list[Column]:
        """The columns that are read, after it is printed what each is taken for."""
        named: dict[Kind, tuple[str, ...]] = {
            "categorical": self.categories,
            "list": self.lists,
            "text": self.texts,
            "dense": self.numbers,
            "ignored": self.ignored,
        }
        fields = dict(zip(named, ("categories", "lists", "texts", "numbers", "ignored"), strict=True))
        stated = {column: kind for kind, columns in named.items() for column in columns}
        for column, kind in stated.items():
            if column not in table.schema:
                near = closest(column, table.schema)
                fix = f"--task.{self._field}.{fields[kind]} {shlex.quote(near)}" if near else ""
                found = ", ".join(table.schema)
                raise InputError(
                    f"field task.{self._field}.{fields[kind]}", f'column "{column}" is not there.', found=found, fix=fix
                )
        guesses = guess(table, (name,), stated, self.separator, self.infer, all_kinds=True)
        print(_render(guesses, name, self._field), file=sys.stderr)
        read = []
        for one in guesses:
            if form := READ.get(one.kind):
                edges = _edges(table, one.name, self.ranges) if form == "number" else ()
                read.append(Column(one.name, form, edges))
        return read

    def _tokens(self, column: Column, values: Any) -> list[list[str]]:
        """The tokens of each value, each once."""
        if column.kind == "number":
            known = tabular_values.numbers(values, column.name)
            ranges = np.searchsorted(np.array(column.edges), known, side="right")
            return [
                [] if np.isnan(value) else [str(place)] for value, place in zip(known, ranges.tolist(), strict=True)
            ]
        if column.kind == "list":
            return [list(dict.fromkeys(row)) for row in tabular_values.items(values, self.separator)]
        texts = tabular_values.texts(values)
        if column.kind == "text":
            return [list(dict.fromkeys(_WORD.findall((text or "").lower()))) for text in texts]
        return [[text] if text else [] for text in texts]

    def sizes(self) -> dict[str, int]:
        """``features``: rows of the table of tokens; nothing where there are no attributes."""
        count = len(self._known.idf)
        return {"features": padded_rows(count)} if count else {}

    @property
    def names(self) -> list[str]:
        """What the table describes, in its order."""
        return self._known.names

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns that are read."""
        return self._known.columns

    @property
    def values(self) -> dict[str, list[str]]:
        """The tokens of each column, those of the most records first."""
        known = self._known
        read: dict[str, list[str]] = {column.name: [] for column in known.columns}
        for place, token in zip(known.of.tolist(), known.tokens, strict=True):
            read[known.columns[place].name].append(token)
        return read

    @property
    def _known(self) -> "_Known":
        return _stored(self.file, changed(self.file))

    def named(self, names: Sequence[Any]) -> tuple[Ragged, Ragged]:
        """Rows int32 and weights float32 of the tokens of users or items of the table by name, of the same lengths; of
        one that the table has not there are none."""
        return self._weighted(self._stored_rows(names))

    def _stored_rows(self, names: Sequence[Any]) -> list[np.ndarray]:
        """Rows of the tokens of users or items of the table by name."""
        known = self._known
        places = [known.places.get(name or "", -1) for name in tabular_values.texts(names)]
        return [known.records[place] if place >= 0 else _NONE for place in places]

    def encode(self, columns: Columns) -> tuple[Ragged, Ragged]:
        """The same of records (b, ...) by column; a column that is absent has no tokens."""
        known = self._known
        count = len(next(iter(columns.values())))
        rows: list[list[int]] = [[] for _ in range(count)]
        for place, column in enumerate(known.columns):
            if column.name in columns:
                for row, tokens in zip(rows, self._tokens(column, columns[column.name]), strict=True):
                    row += [known.by_token[place, token] for token in tokens if (place, token) in known.by_token]
        return self._weighted([np.array(sorted(row), np.int64) for row in rows])

    def encode_named(self, names: Sequence[Any], columns: Columns) -> tuple[Ragged, Ragged]:
        """As `encode`, but of a record without tokens those of its name, see `named`."""
        if not columns:
            return self.named(names)
        given, _ = self.encode(columns)
        rows = np.split(given.values, np.cumsum(given.lengths)[:-1])
        return self._weighted(
            [row if len(row) else own for row, own in zip(rows, self._stored_rows(names), strict=True)]
        )

    def _weighted(self, records: Sequence[np.ndarray]) -> tuple[Ragged, Ragged]:
        known = self._known
        lengths = np.array([len(row) for row in records], np.int32)
        rows = np.concatenate([_NONE, *records]).astype(np.int32)
        groups = np.repeat(np.arange(len(records)), lengths) * max(len(known.columns), 1) + known.of[rows]
        weights = known.idf[rows]
        weights = weights / np.sqrt(np.bincount(groups, weights**2))[groups]
        return Ragged(rows, lengths, axis=self.axis), Ragged(weights.astype(np.float32), lengths, axis=self.axis)


_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Known:
    """What a file holds.

    Attributes:
        columns: that are read.
        names: of the records.
        places: of the records by name.
        records: rows of the tokens of each.
        tokens, of, idf: by row: the token, the place of its column, and its inverse document frequency.
        by_token: row by column's place and token.
    """

    columns: tuple[Column, ...]
    names: list[str]
    places: dict[str, int]
    records: list[np.ndarray]
    tokens: list[str]
    of: np.ndarray
    idf: np.ndarray
    by_token: dict[tuple[int, str], int]


@functools.lru_cache(maxsize=4)
def _stored(file: str, written: int) -> _Known:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> _Known:
    columns = tuple(json_files.built(Column, column) for column in content["columns"])
    names, tokens = json_files.texts(content["names"]), json_files.texts(content["tokens"])
    of, rows, lengths = (np.array(content[name], np.int64) for name in ("of", "rows", "lengths"))
    idf = np.array(content["idf"], np.float64)
    if not len(of) == len(tokens) == len(idf) or len(lengths) != len(names) or lengths.sum() != len(rows):
        raise ValueError("there are not as many tokens as the records have")
    if len(rows) and (rows.min() < 0 or rows.max() >= len(tokens)):
        raise ValueError("a record names a token that is not there")
    records = np.split(rows, np.cumsum(lengths)[:-1]) if len(names) else []
    by_token = {(place, token): row for row, (place, token) in enumerate(zip(of.tolist(), tokens, strict=True))}
    return _Known(columns, names, {name: i for i, name in enumerate(names)}, records, tokens, of, idf, by_token)


def _named(table: Source, name: str) -> list[str]:
    return [str(value) for value in tabular_values.texts(table.column(name, np.arange(len(table))))]


def _edges(table: Source, name: str, ranges: int) -> tuple[float, ...]:
    values = tabular_values.numbers(table.column(name, np.arange(len(table))), name)
    known = values[~np.isnan(values)]
    return tuple(np.unique(np.quantile(known, np.arange(1, ranges) / ranges)).tolist()) if len(known) else ()


def _render(guesses: Sequence[Guess], name: str, field: str) -> str:
    width = max((len(one.name) for one in guesses), default=0)
    lines = [f"attributes by {name} (task.{field}.lists, .categories, .texts, .numbers and .ignored change them):"]
    shown = lambda one: READ.get(one.kind, f"not read ({one.kind})" if one.kind != "ignored" else "ignored")
    return "\n".join(lines + [f"  {one.name:{width}}  {shown(one):11}  {one.why}" for one in guesses])
