"""The codec of retrieval: a user, or a history, in; items out. Dims: b records, t items of a history."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import column
from suite.codecs.items import CHOICES, Catalogue, NextItems, ragged
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Input, Output
from suite.data.preprocessing import tabular_values
from suite.data.preprocessing.attributes import Attributes, Column
from suite.data.preprocessing.interactions import UNKNOWN, Interactions
from suite.data.preprocessing.items import Items
from suite.data.reading import changed
from suite.errors import InputError

BASES = ("popularity", "history", "attributes", "history and attributes", "user")
"""What an answer rests on."""
RANKED = "ranked"
"""Column of whether an item of the catalogue is ranked in a split."""


@dataclass(frozen=True, kw_only=True)
class Retrieved(NextItems):
    """What a user may want, by what training knows of the user, or by a history, or by attributes."""

    user: str
    """Name of the column of users."""
    pairs: Interactions
    """Who had what in training."""
    user_attributes: Attributes
    """What is known of users besides."""

    @property
    def read(self) -> Items:
        return self.ranked  # by the vectors of the catalogue

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The user, the history, and a column for each attribute of users; none is required."""
        known = tuple(self.pairs.had.users[:CHOICES])
        about = "a user of training; of another one, or without one, the history and the attributes decide"
        (history,) = super().inputs
        user = Input(
            name=self.user, kind="category", description=about, example=known[0], choices=known, required=False
        )
        values = self.user_attributes.values
        attributes = [_input(one, values[one.name]) for one in self.user_attributes.columns if one.name != self.user]
        return (user, history, *attributes)

    @property
    def primary(self) -> str:
        return self.history

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "what the ranking rests on"
        return (*super().outputs, Output(name="basis", kind="text", description=about))

    @property
    def purpose(self) -> str:
        return "Ranks items for a user, or for a list of items"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``user_ids`` int32 (b, 1), rows of users, -1 of new ones; ``items`` int32 Ragged, the latest items of the
        history; ``seen`` int32 Ragged, what the user had in training and in the history; ``unseen`` int32 (b,), how
        many items of the history are not known; and tokens of attributes, where training had them."""
        count = len(next(iter(columns.values())))
        histories = columns.get(self.history, [None] * count)
        encoded = super().encode({self.history: histories})
        users = columns.get(self.user, [None] * count)
        rows = self.pairs.user_rows(users)
        encoded["user_ids"] = rows[:, None]
        encoded["seen"] = self._seen(rows, encoded["seen"])
        if self.user_attributes.columns:
            encoded |= self._attributes(users, columns)
        return encoded

    def _seen(self, users: np.ndarray, histories: Ragged) -> Ragged:
        """Items of the histories, and before them those that known users had in training."""
        if (users == UNKNOWN).all():
            return histories
        had = self.pairs.had
        number = _numbers(self.ranked, changed(self.ranked.file), self.pairs, changed(self.pairs.file))
        own = np.split(histories.values, np.cumsum(histories.lengths)[:-1])
        rows = []
        for user, latest in zip(users.tolist(), own, strict=True):
            before = number[had.rows[had.starts[user] : had.starts[user + 1]]] if user != UNKNOWN else latest[:0]
            before = before[(before > 0) & ~np.isin(before, latest)]
            rows.append(np.concatenate([before, latest])[-self.max_seen :])
        return ragged([row.tolist() for row in rows], to=self.max_seen)

    def _attributes(self, users: Sequence[Any], columns: Columns) -> dict[str, Any]:
        """Those that are given, else those that training had of the user."""
        given = {one.name: columns[one.name] for one in self.user_attributes.columns if one.name in columns}
        features, weights = self.user_attributes.encode(given) if given else self.user_attributes.named(users)
        return {"user_features": features, "user_weights": weights}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{"items": [{"item", "score"}, ...], "unseen", "basis"}`` for each record."""
        answers = super().decode(outputs, columns)
        return [{**answer, "basis": BASES[int(basis)]} for answer, basis in zip(answers, outputs["basis"], strict=True)]


@dataclass(frozen=True, kw_only=True)
class CatalogueItem(Catalogue):
    """An item of a catalogue: its vector is that of training, with those of its attributes."""

    by: ClassVar[str] = "attributes"
    compared: ClassVar[str] = "users"

    pairs: Interactions
    """Who had what in training."""
    attributes: Attributes
    """What is known of items besides."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        values = self.attributes.values
        return (self._item(bool(self._columns)), *(_input(one, values[one.name]) for one in self._columns))

    @property
    def _columns(self) -> list[Column]:
        return [one for one in self.attributes.columns if one.name != self.item]

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``item_ids`` int32 (b, 1), rows of items, -1 of new ones; ``ranked`` (b,), whether the item is recommended;
        and tokens of attributes: those of the record, or where it has none those that training had of the item.

        Raises:
            InputError: an item that training had not, and that no known attribute describes.
        """
        names = tabular_values.texts(column(columns, self.item))
        rows = self.pairs.item_rows(names)
        encoded: dict[str, Any] = {"item_ids": rows[:, None]}
        described = np.zeros(len(names), np.int32)
        if read := self.attributes.columns:
            given = {one.name: columns[one.name] for one in read if one.name in columns}
            tokens, weights = self.attributes.encode_named(names, given)
            encoded |= {"item_features": tokens, "item_weights": weights}
            described = tokens.lengths
        known = self.items.number(names) > 0
        for place in np.flatnonzero(~known & (rows == UNKNOWN) & (described == 0)).tolist():
            problem = "training had no such item, and nothing that describes it."
            fix = "items of training" + (", or known attributes" if read else "")
            raise InputError(f'column "{self.item}"', problem, found=str(names[place]), fix=fix)
        return {**encoded, RANKED: np.asarray(columns.get(RANKED, np.ones(len(names))), bool)}


def _input(about: Column, values: Sequence[str]) -> Input:
    kind = {"number": "number", "list": "list", "text": "text", "category": "text"}[about.kind]
    choices = tuple(values[:CHOICES]) if about.kind in ("list", "category") else ()
    return Input(name=about.name, kind=kind, choices=choices, required=False)


@functools.lru_cache(maxsize=4)
def _numbers(ranked: Items, ranked_written: int, pairs: Interactions, pairs_written: int) -> np.ndarray:
    """Numbers (i,) of the items of training in a ranking, 0 of those that are not recommended any more."""
    return ranked.number(pairs.had.items)
