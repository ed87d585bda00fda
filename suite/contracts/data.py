"""Data and Source: where records come from, and records read a batch at a time."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Source(ABC):
    """Records that can be read in any order, a batch of them at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, str]:
        """Column name -> what it holds: ``"text"``, ``"image"``, ``"boxes"``, ``"class"``, ``"int"``, ``"float"``."""

    @abstractmethod
    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        """The records at ``indices`` (b,), by column."""

    def column(self, name: str, indices: np.ndarray) -> Any:
        """One column of the records at ``indices`` (b,); sources that need not read the others override it."""
        return self[indices][name]

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of each ``"class"`` column that carries them; a record then holds the integer. Of a
        column of masks, names of the numbers in them."""
        return {}

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of records that reading and cleaning left out."""
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or changed on reading, a sentence each: said before training and on inspection."""
        return ()

    @property
    def styles(self) -> dict[str, str]:
        """Column of numbers -> how they were written, such as ``"decimal comma"``, where that is not the usual way."""
        return {}

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        """Reason -> what the first few of the records left out are called: a file, a line, a row."""
        return {}

    def record_names(self, indices: np.ndarray) -> list[str]:
        """What the records at ``indices`` (b,) are called: by their file where they have one, else by their place."""
        if "file" in self.schema:
            return [str(name) for name in self.column("file", indices)]
        return [f"record {place + 1}" for place in np.asarray(indices).tolist()]


class Data(ABC):
    """Where records come from: a frozen dataclass naming a file, a folder or a dataset, with its splits."""

    @abstractmethod
    def open(self, split: str) -> Source:
        """The records of ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            InputError: there is nothing to read, or no such split.
        """

    def with_classes(self, column: str) -> "Data":
        """The same data, with splits of its own that each get a share of each class of a column. Data whose splits are
        given, or that hold no classes, are the same."""
        return self

    def with_texts(self, columns: tuple[str, ...]) -> "Data":
        """The same data with these columns as texts, whatever they look like: the text 000042 is not the number 42.
        Data whose columns have types of their own are the same."""
        return self

    def with_json(self, columns: tuple[str, ...]) -> "Data":
        """The same data with the values of these columns as JSON texts, whatever they hold: lists of objects stay what
        they are. Data whose columns have types of their own are the same."""
        return self

    def whole(self) -> Source | None:
        """All records in the order of the data, for a task that splits them by itself: by time, or a user's events
        from each other. None: their splits are given.

        Raises:
            InputError: there is nothing to read.
        """
        return None

    @property
    def origin(self) -> str:
        """Who made the records, and where they are from; empty where the data doesn't say."""
        return ""

    @property
    def licence(self) -> str:
        """What may be done with the records; empty where the data doesn't say."""
        return ""
