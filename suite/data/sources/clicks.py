"""Click logs: MovieLens ratings as clicks, and the columns of the Criteo and Avazu logs."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.sources.datasets import Tfds
from suite.data.sources.events import from_the_last
from suite.data.sources.memory import SPLITS, Memory, Subset, check_split, not_empty

CRITEO_NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CRITEO_CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
CRITEO = ("label", *CRITEO_NUMBERS, *CRITEO_CATEGORIES)
"""Columns of the Criteo display advertising log, whose files are tab separated and have no header line."""

AVAZU_TEXTS = (
    "id",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
)
AVAZU = (
    "id",
    "click",
    "hour",
    "C1",
    "banner_pos",
    *AVAZU_TEXTS[1:],
    "device_type",
    "device_conn_type",
    *(f"C{i}" for i in range(14, 22)),
)
"""Columns of the Avazu log, comma separated."""

_YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True, kw_only=True)
class MovieLens(Data):
    """MovieLens ratings, prepared by TFDS, as clicks: was the film liked?

    Columns: ``user``, ``movie``, ``genres`` (between bars), ``year`` of the film, ``age`` in years, ``gender``,
    ``occupation`` and ``zip`` (first two digits) of the user, and ``click``. Each user's ratings are split by time:
    the last tenth is test, the tenth before it validation, so that no model sees what comes after.
    """

    name: str = "movielens/100k-ratings"
    """Name of the prepared dataset."""
    data_dir: str = ""
    """Folder of prepared datasets. Empty: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    liked: float = 4.0
    """Least rating that is a click."""
    favourite: float = 0.0
    """Least rating that is 1 in a column ``favourite``. 0: no such column."""
    history: int = 0
    """Films in a column ``history``: those that the user had liked before the second of the rating, at most so many of
    the latest ones, the latest last. 0: no such column."""

    @property
    def origin(self) -> str:
        return "GroupLens, University of Minnesota (Harper and Konstan, 2015, doi 10.1145/2827872)"

    @property
    def licence(self) -> str:
        return "for research; no redistribution and no commercial use without permission of GroupLens"

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: the dataset is not prepared, or there is no such split.
        """
        check_split(split, self.name)
        whole, part = _rated(self.name, self.data_dir, self.liked, self.favourite, self.history)
        return not_empty(Subset(whole, np.flatnonzero(part == SPLITS.index(split))), split, self.name)


@functools.lru_cache(maxsize=2)
def _rated(name: str, data_dir: str, liked: float, favourite: float, history: int) -> tuple[Memory, np.ndarray]:
    """All ratings, and the split (n,) of each."""
    raw = Tfds(name=name, data_dir=data_dir).open("train")
    rated = raw[np.arange(len(raw))]
    years = [_YEAR.search(title) for title in rated["movie_title"]]
    columns = {
        "user": rated["user_id"],
        "movie": rated["movie_id"],
        "genres": rated["movie_genres"],
        "year": np.array([float(year[1]) if year else np.nan for year in years]),
        "age": np.asarray(rated["raw_user_age"], np.float64),
        "gender": np.asarray(rated["user_gender"], np.int64),
        "occupation": rated["user_occupation_text"],
        "zip": [code[:2] for code in rated["user_zip_code"]],
        "click": (np.asarray(rated["user_rating"]) >= liked).astype(np.int64),
    }
    users, times = np.array(rated["user_id"]), np.asarray(rated["timestamp"])
    if favourite:
        columns["favourite"] = (np.asarray(rated["user_rating"]) >= favourite).astype(np.int64)
    if history:
        columns["history"] = histories(users, times, rated["movie_id"], columns["click"] == 1, history)
    return Memory(columns), split_by_time(users, times)


def histories(
    users: np.ndarray, times: np.ndarray, items: Sequence[Any], counts: np.ndarray, longest: int
) -> list[list[Any]]:
    """The items of each event's user before its time, in the order of time, at most the latest ``longest``.

    Events of the same time know nothing of each other.

    Args:
        users, times: (n,) of the events.
        items: of the events.
        counts: (n,) bool, the events whose items become part of histories.
        longest: most items of a history.
    """
    earlier: list[list[Any]] = [[] for _ in users]
    had: list[Any] = []
    waiting: list[Any] = []
    user, time = None, None
    for place in np.lexsort((times, users)).tolist():
        if users[place] != user:
            had, waiting, user, time = [], [], users[place], times[place]
        elif times[place] != time:
            had, waiting, time = [*had, *waiting][-longest:], [], times[place]
        earlier[place] = had
        if counts[place]:
            waiting.append(items[place])
    return earlier


def split_by_time(users: np.ndarray, times: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Split (n,) int8 of each event, as positions in SPLITS: of each user's events the last ``share`` is test, the
    ``share`` before it validation. Events of the same second keep their order."""
    order = np.lexsort((times, users))
    left, count = from_the_last(users[order])
    part = np.where(left <= share * count, 2, np.where(left <= 2 * share * count, 1, 0))
    placed = np.empty(len(users), np.int8)
    placed[order] = part
    return placed
