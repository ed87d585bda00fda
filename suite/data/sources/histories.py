"""Histories: the events of a split as a record a user, with what came before and what is to be found."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.sources.events import Events
from suite.data.sources.memory import SPLITS

USER, EVENTS, ITEMS = "user", "events", "items"
"""Columns of the user, of the items of a training record, and of those that are held out."""


class Histories(Source):
    """Users with their items, in the order of time: columns ``user`` and ``events`` of the training split; ``user``,
    the history and ``items`` of a held-out one.

    A training record is a stretch of the user's training events, of at most ``stretch``; the history of a held-out
    record is all events of earlier splits. Held-out items that the user had before are left out and counted,
    since they are not ranked; so are users without a history, of whom nothing is known.

    Args:
        events: of all splits.
        split: one of them.
        history: name of the column of histories.
        stretch: most items of a training record; 0: all.
        parts: splits whose events make up the training records, the first ones: 2, those of training and validation.
    """

    def __init__(self, events: Events, split: str, history: str, stretch: int = 0, parts: int = 1):
        part = SPLITS.index(split)
        self._events, self._history, self._held_out = events, history, part > 0
        self._dropped = dict(events.dropped)
        count = len(events.users)
        if part == 0:
            learnt = events.part < parts
            self._before = events.item[learnt]
            self._user, self._begins, self._ends = _stretches(events.user[learnt], stretch)
            return
        earlier, held = events.part < part, events.part == part
        self._before, before = events.item[earlier], events.user[earlier]
        starts = np.searchsorted(before, np.arange(count + 1))
        user, item = events.user[held], events.item[held]
        pairs = before.astype(np.int64) * len(events.items) + self._before
        keys = user.astype(np.int64) * len(events.items) + item
        _, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), bool)
        again[first] = False
        fresh = ~np.isin(keys, pairs) & ~again
        if had := int((~fresh).sum()):
            self._dropped["items the user had before"] = had
        self._item, user = item[fresh], user[fresh]
        ends = np.searchsorted(user, np.arange(count + 1))
        wanted, known = np.diff(ends) > 0, np.diff(starts) > 0
        if new := int((wanted & ~known).sum()):
            self._dropped["users without an earlier event"] = new
        self._user = np.flatnonzero(wanted & known)
        self._begins, self._ends = starts[:-1][self._user], starts[1:][self._user]
        self._first, self._last = ends[:-1][self._user], ends[1:][self._user]

    def __len__(self) -> int:
        return len(self._user)

    @property
    def schema(self) -> dict[str, str]:
        """Column name -> kind."""
        return (
            {USER: "text", self._history: "text", ITEMS: "text"} if self._held_out else {USER: "text", EVENTS: "text"}
        )

    @property
    def by(self) -> str:
        """How events are held out."""
        return self._events.by

    @property
    def about(self) -> str:
        """How many there are of what, and how events are held out, in words."""
        events = self._events
        return (
            f"{len(self._before):,} events of {len(events.users):,} users with {len(events.items):,} "
            f"items; held out: {self.by}"
        )

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of events, or of users, that are left out."""
        return self._dropped

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        """Reason -> what the first lines or records left out on reading are called."""
        return self._events.dropped_names

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the split."""
        return self._events.notes

    def record_names(self, indices: np.ndarray) -> list[str]:
        return [f"user {self._events.users[place]}" for place in self._user[np.asarray(indices)]]

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        places = np.asarray(indices)
        names = self._events.items
        columns: dict[str, Any] = {
            USER: [self._events.users[place] for place in self._user[places]],
            self._history if self._held_out else EVENTS: self._named(
                self._before, self._begins[places], self._ends[places], names
            ),
        }
        if self._held_out:
            columns[ITEMS] = self._named(self._item, self._first[places], self._last[places], names)
        return columns

    @staticmethod
    def _named(items: np.ndarray, begins: np.ndarray, ends: np.ndarray, names: list[str]) -> list[list[str]]:
        return [[names[item] for item in items[begin:end].tolist()] for begin, end in zip(begins, ends, strict=True)]


class Pairs(Histories):
    """The training events, each pair of a user and an item once: columns ``user``, and ``events`` of that one item.

    Args:
        events: of all splits.
        others: names of items that can be recommended besides those of the events.
    """

    def __init__(self, events: Events, others: Callable[[], Sequence[str]] = tuple):
        keys = events.user.astype(np.int64) * len(events.items) + events.item
        train = np.flatnonzero(events.part == 0)
        first = np.sort(train[np.unique(keys[train], return_index=True)[1]])
        fields = {name: getattr(events, name)[first] for name in ("user", "item", "part")}
        super().__init__(replace(events, **fields), "train", "", 1)
        if again := len(train) - len(first):
            self._dropped["events of a user and an item that came before"] = again
        self._others = others

    @property
    def others(self) -> Sequence[str]:
        """Items that can be recommended besides those of the events."""
        return self._others()


def _stretches(user: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, begins and ends of stretches of at most ``most`` events of one user each, counted from the last event."""
    users, starts, counts = np.unique(user, return_index=True, return_counts=True)
    size = most or int(counts.max(initial=1))
    pieces = -(-counts // size)
    of = np.repeat(np.arange(len(users)), pieces)
    place = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # 0 for a user's latest stretch
    ends = (starts + counts)[of] - place * size
    return users[of], np.maximum(ends - size, starts[of]), ends
