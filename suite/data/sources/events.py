"""Events: who did something with what, and when; split into what is learnt from and what is held out of each user."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.columns import origin, require
from suite.data.preprocessing.tabular_values import texts
from suite.data.reading import file_key
from suite.data.sources.item_lists import ItemLists
from suite.data.sources.memory import NAMED, SPLITS, LeftOut, hash_places
from suite.errors import InputError, MissingSplit

By = Literal["auto", "leave_last_out", "time", "random", "cold_items", "given"]


@dataclass(frozen=True, kw_only=True)
class EventSplit:
    """Which events are held out of data that have no splits of their own."""

    by: By = "auto"
    """leave_last_out: each user's last event is test, the one before it validation. time: the latest share of all
    events is test, the share before it validation; the only one that never learns from what came later. random: a
    share by a hash of user and item. cold_items: a share of the items by a hash, each with all of its events, which a
    model of attributes ranks among each other. given: the splits are those of the data. auto: given where there are
    such, else leave_last_out where events have an order, else random."""
    validation: float = 0.1
    """Share of the events, of time and random, or of the items, of cold_items; of given, share of the training events
    by a hash of user and item, where the data have no validation split."""
    test: float = 0.1
    """The same of the test split."""
    seed: int = 0
    """Seeds a random split."""

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            shares = f"{self.validation:g}, {self.test:g}"
            fix = "--task.split.validation 0.1 --task.split.test 0.1"
            raise InputError("fields task.split.validation and .test", "must be shares of 1.", found=shares, fix=fix)

    def parts(self, keys: Sequence[str]) -> np.ndarray:
        """Split (n,) int8 of each key by a hash, as positions in ``SPLITS``: of random those of users and items, of
        cold_items names of items."""
        place = hash_places(keys, self.seed)
        return np.where(place < self.test, 2, np.where(place < self.test + self.validation, 1, 0)).astype(np.int8)


@dataclass(frozen=True)
class Events:
    """Events of all splits, each user's in the order of time; those of one time in that of the data.

    Attributes:
        users, items: names, sorted.
        user, item: (n,) int32 places in them; users rise.
        part: (n,) int8 split of each, as positions in ``SPLITS``.
        by: how they are split.
        dropped: reason -> number of events left out.
        dropped_names: reason -> what the first of them are called.
        notes: what a reader should know of the split, a sentence each.
    """

    users: list[str]
    items: list[str]
    user: np.ndarray
    item: np.ndarray
    part: np.ndarray
    by: str
    dropped: dict[str, int]
    dropped_names: dict[str, list[str]]
    notes: tuple[str, ...]


_latest: tuple[Any, Events] | None = None
"""What was read last, by what it was asked for: every split of a task is of the same events."""


def read_events(data: Data, user: str, item: str, time: str, split: EventSplit) -> Events:
    """The events of ``data``, split. Of files that are as they were when they were read last, nothing is read again.

    Args:
        data: with a record an event.
        user, item: names of the columns.
        time: of the column of times, numbers or dates; empty: the order of the data is that of time.
        split: how they are split.

    Raises:
        InputError: a column is missing, a time cannot be read, or the splits are asked for and are not there.
    """
    global _latest
    files = _files(data)
    asked = (data, user, item, time, split, files)
    if files and _latest is not None and _latest[0] == asked:
        return _latest[1]
    events = _read_events(data, user, item, time, split)
    _latest = (asked, events) if files else None
    return events


def _files(data: Data) -> list[tuple[str, int, int]]:
    """What the files of data are known by; empty where they are no files."""
    path = Path(getattr(data, "path", "") or "")
    # Beside a file of lists others may name its numbers.
    found = sorted(path.iterdir()) if path.is_dir() else [path, *sorted(path.parent.glob("*_list.txt"))]
    return [known for file in found if file.is_file() and (known := file_key(file)) is not None]


def _read_events(data: Data, user: str, item: str, time: str, split: EventSplit) -> Events:
    data = data.with_texts((user, item))
    whole = None if split.by == "given" else data.whole()
    if whole is None and split.by not in ("auto", "given"):
        problem = f"is {split.by}, and the data have splits of their own."
        raise InputError("field task.split.by", problem, fix="--task.split.by given")
    sources = [whole] if whole is not None else _given(data)
    fields = {"user": user, "item": item} | ({"time": time} if time else {})
    for source in sources:
        if source is not None:
            require(source, fields, origin(data))
    read = [(place, source, _columns(source, fields)) for place, source in enumerate(sources) if source is not None]
    parts = np.concatenate([np.full(len(source), place, np.int8) for place, source, _ in read])
    columns = {key: [value for *_, each in read for value in each[key]] for key in ("user", "item")}
    times = _times([value for *_, each in read for value in each["time"]], time) if time else None
    left = LeftOut()
    for _, source, _ in read:
        for reason, count in source.dropped.items():
            left.add(reason, count=count)
        for reason, names in source.dropped_names.items():
            left.names[reason] = [*left.names.get(reason, []), *names][:NAMED]
    kept = _kept(columns, times, left)
    users, user_of = np.unique([columns["user"][place] for place in kept], return_inverse=True)
    items, item_of = np.unique([columns["item"][place] for place in kept], return_inverse=True)
    parts, times = parts[kept], None if times is None else times[kept]
    # Given splits decide what comes before what, then times; all of data without splits are of one part here.
    order = np.lexsort((np.arange(len(kept)) if times is None else times, parts, user_of))
    user_of, item_of, parts = user_of[order], item_of[order], parts[order]
    sorted_times = None if times is None else times[order]
    by = split.by
    if by == "auto" and whole is None:
        by = "given"
    elif by == "auto":  # lists are in the order of time
        by = "leave_last_out" if time or isinstance(data, ItemLists) else "random"
    if whole is not None:
        parts = _parts(by, split, users, items, user_of, item_of, sorted_times)
    notes = [note for _, source, _ in read for note in source.notes]
    if whole is None and sources[1] is None and split.validation:
        held_out = (parts == 0) & (hash_places(_keys(users, items, user_of, item_of), split.seed) < split.validation)
        parts = np.where(held_out, 1, parts).astype(np.int8)
        notes.append(
            f"the data have no validation split: {int(held_out.sum()):,} training events, "
            f"{100 * split.validation:g} %, are held out for it (task.split.validation)"
        )
    if by == "leave_last_out" and sorted_times is not None:
        notes += _leaks(parts, sorted_times)
    if by == "leave_last_out" and not time:
        notes.append("the order of the records is taken for that of time (task.time names a column of times)")
    return Events(
        users.tolist(),
        items.tolist(),
        user_of.astype(np.int32),
        item_of.astype(np.int32),
        parts,
        by,
        left.counts,
        left.names,
        tuple(dict.fromkeys(notes)),
    )


def _given(data: Data) -> list[Source | None]:
    """The data's own splits; None for one that is not there."""
    sources: list[Source | None] = [data.open("train")]
    for name in SPLITS[1:]:
        try:
            sources.append(data.open(name))
        except MissingSplit:
            sources.append(None)
    return sources


def _columns(source: Source, fields: dict[str, str]) -> dict[str, Sequence[Any]]:
    every = np.arange(len(source))
    columns = {key: source.column(name, every) for key, name in fields.items()}
    return {
        key: values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind == "U" else list(values)
        for key, values in columns.items()
    }


def _kept(columns: dict[str, list[Any]], times: np.ndarray | None, left: LeftOut) -> np.ndarray:
    """Places of the events that have a user, an item and a time; the others are counted. Names become texts."""
    gaps = []
    for key in ("user", "item"):
        columns[key] = texts(columns[key])
        gaps.append((f"no {key}", np.array([not value for value in columns[key]], bool)))
    if times is not None:
        gaps.append(("no time", np.isnan(times)))
    missing = np.zeros(len(columns["user"]), bool)
    for reason, gap in gaps:
        if count := int((gap & ~missing).sum()):
            left.add(reason, count=count)
        missing |= gap
    if missing.all():
        raise InputError("data", "no record has a user and an item.", found=f"{len(missing):,} records")
    return np.flatnonzero(~missing)


def _times(values: Sequence[Any], column: str) -> np.ndarray:
    """Times (n,) float64, nan where one is missing: numbers as they are, dates of ISO 8601 in seconds."""
    known = [value for value in values if value is not None and value == value and value != ""]
    try:
        if all(isinstance(value, int | float | np.number) for value in known):
            return np.array([np.nan if value is None else value for value in values], np.float64)
        moments = np.array([str(value or "NaT").removesuffix("Z") for value in values], "datetime64[us]")
    except ValueError as error:
        raise InputError(
            f"column {column}",
            "holds what is no time.",
            found=str(error)[:200],
            fix="numbers, or dates as 2026-11-29T08:30",
        ) from None
    seconds = moments.astype(np.int64) / 1e6
    return np.where(np.isnat(moments), np.nan, seconds)


def _parts(
    by: str,
    split: EventSplit,
    users: np.ndarray,
    items: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    times: np.ndarray | None,
) -> np.ndarray:
    """Split (n,) int8 of each event; users rise, and each one's events are in the order of time."""
    if by == "random":
        return split.parts(_keys(users, items, user, item))
    if by == "cold_items":
        return split.parts(items.tolist())[item]
    if by == "time":
        if times is None:
            raise InputError("field task.split.by", "is time, and no column of times is named.", fix="--task.time time")
        first, second = np.quantile(times, [1 - split.test - split.validation, 1 - split.test])
        return np.where(times > second, 2, np.where(times > first, 1, 0)).astype(np.int8)
    left, count = from_the_last(user)
    return np.where(count < len(SPLITS), 0, np.where(left == 1, 2, np.where(left == 2, 1, 0))).astype(np.int8)


def _keys(users: np.ndarray, items: np.ndarray, user: np.ndarray, item: np.ndarray) -> list[str]:
    """What each of n events is split by at random: the same event twice is on one side."""
    return [f"{users[u]}\0{items[i]}" for u, i in zip(user.tolist(), item.tolist(), strict=True)]


def from_the_last(users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place (n,) of each event from its user's last one, which is 1, and how many events its user has; of events that
    are sorted by user, and each one's by time."""
    _, starts, counts = np.unique(users, return_index=True, return_counts=True)
    count = np.repeat(counts, counts)
    return count - (np.arange(len(users)) - np.repeat(starts, counts)), count


def _leaks(parts: np.ndarray, times: np.ndarray) -> list[str]:
    """A sentence on what is learnt from that came after events that are held out; none where nothing does."""
    if not (parts == 2).any():
        return []
    later = float((times[parts == 0] > np.median(times[parts == 2])).mean())
    if not later:
        return []
    return [
        f"leave_last_out holds out each user's last event: {100 * later:.1f} % of the training events came after half "
        "of the test events, so other users' future is learnt from (--task.split.by time does not)"
    ]
