"""Interactions: the users and the items of the training events, and who had what."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor, padded_rows
from suite.data.preprocessing.tabular_values import texts
from suite.data.reading import changed
from suite.runtime import json_files

UNKNOWN = -1
"""Row of a user or an item that training had not."""


@dataclass(frozen=True)
class Had:
    """The training events, each pair of a user and an item once. Rows are places in ``users`` and ``items``.

    Attributes:
        users: names, sorted.
        items: names, those of the most users first.
        starts: (u + 1,) int64 where each user's items begin in ``rows``.
        rows: (e,) int32 rows of the items of each user, rising.
        keys: (e,) int64 user times the number of items plus item, rising.
        user_rows, item_rows: name -> row.
    """

    users: list[str]
    items: list[str]
    starts: np.ndarray
    rows: np.ndarray
    keys: np.ndarray
    user_rows: dict[str, int]
    item_rows: dict[str, int]

    @property
    def counts(self) -> np.ndarray:
        """(i,) users of each item."""
        return np.bincount(self.rows, minlength=len(self.items))

    @property
    def owners(self) -> np.ndarray:
        """Rows (e,) int32 of the users of all pairs, rising."""
        return (self.keys // len(self.items)).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Interactions(Preprocessor):
    """Who had what, learnt from the training split: names of users and of items with the rows of their vectors, and the
    items of each user, which are neither recommended again nor drawn as what the user would not want."""

    suffix: ClassVar[str] = ".json"

    column: str = "events"
    """Field of the task that names the column of lists of items."""
    user: str = "user"
    """Column of users."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes users, items and their pairs to ``path``."""
        columns = source[np.arange(len(source))]
        users, record_user = np.unique(columns[self.user], return_inverse=True)
        user = np.repeat(record_user, [len(row) for row in columns[column]])
        names = [name for row in columns[column] for name in row]
        items, item, counts = np.unique(names, return_inverse=True, return_counts=True)
        order = np.lexsort((items, -counts))
        rank = np.empty(len(items), np.int64)
        rank[order] = np.arange(len(items))
        keys = np.unique(user.astype(np.int64) * len(items) + rank[item])
        lengths = np.bincount(keys // len(items), minlength=len(users))
        content = {
            "users": users.tolist(),
            "items": items[order].tolist(),
            "lengths": lengths.tolist(),
            "rows": (keys % len(items)).tolist(),
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """``user.rows`` and ``item.rows``: those of the tables of two towers."""
        had = self.had
        return {"user.rows": padded_rows(len(had.users)), "item.rows": padded_rows(len(had.items))}

    @property
    def had(self) -> Had:
        """What the file holds."""
        return _stored(self.file, changed(self.file))

    def user_rows(self, names: Sequence[Any]) -> np.ndarray:
        """(b,) int32 rows of users by name; `UNKNOWN` where there is none."""
        return _rows(self.had.user_rows, names)

    def item_rows(self, names: Sequence[Any]) -> np.ndarray:
        """(b,) int32 rows of items by name; `UNKNOWN` where there is none."""
        return _rows(self.had.item_rows, names)

    def others(self, users: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """(b, count) int32 rows of items, drawn evenly of those that each user had not; of a user who had all, any.

        Args:
            users: (b,) rows.
            count: to draw for each.
            rng: of the draw.
        """
        had = self.had
        size = len(had.items)
        drawn = rng.integers(0, size, (len(users), count))
        open_ = np.repeat((np.diff(had.starts) < size)[users][:, None], count, 1)
        again = np.flatnonzero(open_)
        while len(again):  # a share of those that were drawn before: soon none
            keys = np.repeat(users.astype(np.int64), count)[again] * size + drawn.reshape(-1)[again]
            places = np.minimum(np.searchsorted(had.keys, keys), len(had.keys) - 1)
            again = again[had.keys[places] == keys]
            drawn.reshape(-1)[again] = rng.integers(0, size, len(again))
        return drawn.astype(np.int32)


def _rows(known: dict[str, int], names: Sequence[Any]) -> np.ndarray:
    return np.array([UNKNOWN if name is None else known.get(name, UNKNOWN) for name in texts(names)], np.int32)


@functools.lru_cache(maxsize=4)
def _stored(file: str, written: int) -> Had:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> Had:
    users, items = json_files.texts(content["users"]), json_files.texts(content["items"])
    lengths, rows = (np.array(content[name], np.int64) for name in ("lengths", "rows"))
    if len(lengths) != len(users) or lengths.sum() != len(rows):
        raise ValueError("there are not as many pairs as the users have")
    if len(rows) and (rows.min() < 0 or rows.max() >= len(items)):
        raise ValueError("a pair names an item that is not there")
    numbered = lambda names: {name: row for row, name in enumerate(names)}
    starts = np.concatenate([[0], np.cumsum(lengths)])
    keys = np.repeat(np.arange(len(users)), lengths) * len(items) + rows
    return Had(users, items, starts, rows.astype(np.int32), keys, numbered(users), numbered(items))
