"""The codec of recommendations: a history in, items out. Dims: b records, t items of a history, k recommended items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import column
from suite.codecs.vectors import vector_answers
from suite.contracts.batch import Columns, Ragged
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing import tabular_values
from suite.data.preprocessing.item_tags import ItemTags
from suite.data.preprocessing.items import BEGINNING, FIRST, Items
from suite.errors import InputError

CHOICES = 100
"""Values that an input lists."""


@dataclass(frozen=True, kw_only=True)
class NextItems(Codec):
    """What a user may want next, by what the user had."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH, "max_seen": LENGTH}

    history: str
    """Name of the column of the user's items, in the order of time."""
    items: Items
    """What training knows, and what can be recommended unless there is a catalogue."""
    max_length: int
    """Items of a history that are read, the latest."""
    max_seen: int
    """Items of a history that are not recommended again, the latest."""
    separator: str = "|"
    """Parts the items of a history that is a text."""
    distinct: bool = False
    """Whether an item that occurs again counts once, where it is last."""
    catalogue: Items | None = None
    """What can be recommended where that is not ``items``."""

    @property
    def ranked(self) -> Items:
        """What can be recommended."""
        return self.items if self.catalogue is None else self.catalogue

    @property
    def read(self) -> Items:
        """What the model reads of a history."""
        return self.items

    @property
    def names_catalogue(self) -> bool:
        return True

    @property
    def catalogue_names(self) -> Sequence[str]:
        return self.ranked.names

    def with_catalogue(self, names: Sequence[str], file: Path) -> "NextItems":
        return replace(self, catalogue=self.items.write(names, file))

    @property
    def inputs(self) -> tuple[Input, ...]:
        about = (
            f"items in the order of time; the latest {self.max_length} are read, and the latest {self.max_seen:,} are "
            "not recommended again"
        )
        names = self.items.names
        return (
            Input(
                name=self.history,
                kind="list",
                description=about,
                example=names[: min(3, len(names))],
                limit=self.max_seen,
                choices=tuple(names[:CHOICES]),
                required=False,
            ),
        )

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "items of the history that training had not"
        return (
            Output(name="items", kind="ranking", description="the items that fit best, the best first"),
            Output(name="unseen", kind="number", description=about, low=0, whole=True),
        )

    @property
    def purpose(self) -> str:
        return "Ranks items for a user, by the items that the user had"

    @property
    def longest(self) -> int:
        return 1 + self.max_length

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``items`` int32 Ragged, the beginning and the latest items; ``seen`` int32 Ragged, the latest of those that
        can be recommended; and ``unseen`` int32 (b,), how many are not known."""
        lists = tabular_values.items(column(columns, self.history), self.separator)
        known, unseen = self.read.numbers(lists)
        ranked = known if self.ranked is self.read else self.ranked.numbers(lists)[0]
        if self.distinct:
            known, ranked = ([list(dict.fromkeys(reversed(row)))[::-1] for row in rows] for rows in (known, ranked))
        read = [[BEGINNING, *row[-self.max_length :]] for row in known]
        seen = ragged([row[-self.max_seen :] for row in ranked], to=self.max_seen)
        return {"items": ragged(read), "seen": seen, "unseen": unseen}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        """``{"items": [{"item", "score"}, ...], "unseen"}`` for each record."""
        names = self.ranked.names
        answers = []
        for items, scores, unseen in zip(outputs["top"], outputs["score"], outputs["unseen"], strict=True):
            ranked = [
                {"item": names[item - FIRST], "score": round(float(score), 6)}
                for item, score in zip(items.tolist(), scores.tolist(), strict=True)
                if item >= FIRST
            ]
            answers.append({"items": ranked, "unseen": int(unseen)})
        return answers


@dataclass(frozen=True, kw_only=True)
class Catalogue(Codec):
    """Items of a catalogue become vectors: those of training, and others that something describes."""

    by: ClassVar[str]
    """What describes others; of a codec."""
    compared: ClassVar[str]
    """What is compared with the vectors; of a codec."""

    item: str
    """Name of the column of items."""
    items: Items
    """What training knows."""

    def _item(self, described: bool) -> Input:
        """The column of items; ``described``: whether there is something that describes others."""
        about = "an item of training" + (f", or another one that {self.by} describe" if described else "")
        names = self.items.names
        return Input(name=self.item, kind="text", description=about, example=names[0], choices=tuple(names[:CHOICES]))

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="vector", kind="vector", description=f"what {self.compared} are compared with"),)

    @property
    def purpose(self) -> str:
        return "Gives the vectors of items"

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return vector_answers(outputs["vector"])


@dataclass(frozen=True, kw_only=True)
class CatalogueItems(Catalogue):
    """Items of a catalogue: those of training, which have vectors of their own, and others that tags describe."""

    by: ClassVar[str] = "tags"
    compared: ClassVar[str] = "histories"

    tags: ItemTags | None = None
    """What training knows of tags."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        item = self._item(self.tags is not None)
        tags = () if self.tags is None else self.tags.columns
        described = "its tags; without them, those that training had of it"
        return (item, *(Input(name=name, kind="list", description=described, required=False) for name in tags))

    @property
    def longest(self) -> int:
        return 0 if self.tags is None else self.tags.most

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``number`` int32 (b,), 0 of an item that training had not; with tags ``item_tags`` int32 Ragged.

        Raises:
            InputError: an item that training had not, and that no known tag describes.
        """
        names = [str(name) for name in column(columns, self.item)]
        numbers = self.items.number(names)
        rows = None if self.tags is None else self.tags.numbers(names, columns)
        for place in np.flatnonzero(numbers == 0).tolist():
            if rows is None or not rows[place]:
                problem = "training had no such item, and has learnt nothing of it."
                if rows is not None:
                    problem = "training had no such item, and none of its tags."
                fix = "items of training, or train again" + (" with theirs" if rows is None else ", or give known tags")
                raise InputError(f'column "{self.item}"', problem, found=names[place], fix=fix)
        return {"number": numbers, **({} if rows is None else {"item_tags": ragged(rows)})}


def ragged(rows: Sequence[Sequence[int]], axis: str = "", to: int = 0) -> Ragged:
    """Lists of numbers as int32 rows."""
    values = np.array([number for row in rows for number in row], np.int32)
    return Ragged(values, np.array([len(row) for row in rows], np.int32), to, axis)
