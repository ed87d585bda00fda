"""Columns of items: what is known of the items of a catalogue besides who had them, a record an item."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.columns import origin, require, some_left
from suite.data.preprocessing.tabular_values import text
from suite.data.reading import existing, read_text
from suite.data.sources.memory import Memory, check_split, cleaned, not_empty
from suite.errors import InputError, MissingSplit


@dataclass(frozen=True, kw_only=True)
class TagsOfItems(Data):
    """A JSON file of one object, in which each item has the list of its tags: ``{"lamp": ["light", "home"]}``. Columns
    ``item`` and ``tags``."""

    path: str
    """The file, which may end in .gz."""

    def open(self, split: str) -> Source:
        """All items, as the training split.

        Raises:
            InputError: no such file or split, or the file is no object of lists.
        """
        check_split(split, self.path)
        if split != "train":
            raise MissingSplit(self.path, f"there is no split '{split}' of items", found="train")
        try:
            value = json.loads(read_text(existing(self.path)))
        except json.JSONDecodeError as error:
            raise InputError(self.path, "is no JSON", found=str(error)) from None
        if not isinstance(value, dict) or not all(isinstance(tags, list) for tags in value.values()):
            raise InputError(self.path, "must be an object of lists", fix='{"item": ["tag", "other tag"]}')
        columns = {"item": list(value), "tags": [[str(tag) for tag in tags] for tags in value.values()]}
        return not_empty(Memory(columns), split, self.path)

    def whole(self) -> Source | None:
        return self.open("train")


def read_items(data: Data, item: str, field: str, columns: Sequence[str] = ()) -> Source:
    """The records of ``data``, one an item, whose names are texts. Records without an item are dropped and counted, as
    are those that name an item again.

    Args:
        data: with a record an item.
        item: name of the column that holds what events call the item.
        field: of the task, that names that column, for errors: ``"tags.item"``.
        columns: others that hold codes, which stay texts as well.

    Raises:
        InputError: the column is missing, or no record has an item.
    """
    data = data.with_texts((item, *columns))
    source = data.whole()
    source = data.open("train") if source is None else source
    require(source, {field: item}, origin(data))
    names = [text(value) or "" for value in source.column(item, np.arange(len(source)))]
    _, first = np.unique(np.array(names, np.str_), return_index=True)
    again = np.ones(len(names), bool)
    again[first] = False
    missing = np.array([not name for name in names], bool)
    kept = cleaned(source, {"no item": missing, "an item that stands there before": again})
    return some_left(kept, item, "no record has an item.")
