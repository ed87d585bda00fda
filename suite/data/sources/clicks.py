"""Click logs: MovieLens ratings as clicks, and the columns of the Criteo and Avazu logs."""

import functools
import re
from dataclasses import dataclass

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
        whole, part = _rated(self.name, self.data_dir, self.liked)
        return not_empty(Subset(whole, np.flatnonzero(part == SPLITS.index(split))), split, self.name)


@functools.lru_cache(maxsize=1)
def _rated(name: str, data_dir: str, liked: float) -> tuple[Memory, np.ndarray]:
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
    return Memory(columns), split_by_time(np.array(rated["user_id"]), np.asarray(rated["timestamp"]))


def split_by_time(users: np.ndarray, times: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Split (n,) int8 of each event, as positions in SPLITS: of each user's events the last ``share`` is test, the
    ``share`` before it validation. Events of the same second keep their order."""
    order = np.lexsort((times, users))
    left, count = from_the_last(users[order])
    part = np.where(left <= share * count, 2, np.where(left <= 2 * share * count, 1, 0))
    placed = np.empty(len(users), np.int8)
    placed[order] = part
    return placed
