"""Tags of items: categories, genres, brands, which make items known that few users had."""

import functools
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.data import Data, Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.notes import told
from suite.data.preprocessing import tabular_values
from suite.data.preprocessing.columns import origin, require
from suite.data.preprocessing.items import CHUNK
from suite.data.reading import changed
from suite.data.sources.item_columns import read_items
from suite.errors import InputError
from suite.runtime import json_files


@dataclass(frozen=True, kw_only=True)
class ItemTags(Preprocessor):
    """The tags of the items of the training split, the most frequent first, from a table of items."""

    suffix: ClassVar[str] = ".json"

    column: str = "events"
    """Field of the task that names the column of lists of items."""
    part: str = "tags"
    """The part of the model that has a vector for each tag."""
    data: Data
    """The table of items, a record an item."""
    item: str = "item"
    """Name of its column of items, which are called what they are in the events."""
    columns: tuple[str, ...] = ("tags",)
    """Names of its columns of tags: lists, texts that a separator parts, or one value an item."""
    separator: str = "|"
    """Parts the tags of a text."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the tags, and those of each item, to ``path``.

        Raises:
            InputError: a column is missing, or no item of the training split has a tag.
        """
        table = read_items(self.data, self.item, "tags.item", self.columns)
        tags = self._tags(table)
        trained: set[str] = set()
        for start in range(0, len(source), CHUNK):
            for row in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
                trained.update(row)
        counts = Counter(tag for name, own in tags.items() if name in trained for tag in own)
        if not counts:
            raise self._no_tags(table, trained)
        names = sorted(counts, key=lambda tag: (-counts[tag], tag))
        number = {tag: place for place, tag in enumerate(names)}
        items = {name: [number[tag] for tag in own if tag in number] for name, own in tags.items()}
        bare = sum(not items.get(name) for name in trained)
        dropped = told(table.dropped, table.dropped_names)
        content = {"tags": names, "items": items, "trained": len(trained), "bare": bare, "dropped": dropped}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _tags(self, table: Source) -> dict[str, list[str]]:
        """The tags of each item, without repetition; where several columns hold tags, with the name of their own."""
        for column in self.columns:
            require(table, {"tags.columns": column}, origin(self.data))
        every = np.arange(len(table))
        names = [str(tabular_values.text(value)) for value in table.column(self.item, every)]
        tags: dict[str, list[str]] = {name: [] for name in names}
        for name, own in zip(names, self._own({name: table.column(name, every) for name in self.columns}), strict=True):
            tags[name] += own
        return tags

    def _own(self, columns: Columns) -> list[list[str]]:
        """The tags (b,) of records."""
        tags: list[list[str]] = [[] for _ in next(iter(columns.values()))]
        for column, values in columns.items():
            prefix = f"{column}: " if len(self.columns) > 1 else ""
            for own, row in zip(tags, tabular_values.items(values, self.separator), strict=True):
                own += dict.fromkeys(prefix + tag for tag in row)
        return tags

    @property
    def most(self) -> int:
        """Tags of the item that has most of them, and of one that is described anew."""
        return max(map(len, self._stored["items"].values()), default=1)

    def numbers(self, names: Sequence[str], columns: Columns) -> list[list[int]]:
        """The tags of each record that training has, at most `most` of them.

        Args:
            names: of the items (b,).
            columns: with tags (b,), those that are given; of an item without any, those that training had of it.
        """
        stored = self._stored
        given = {name: columns[name] for name in self.columns if name in columns}
        number = {tag: place for place, tag in enumerate(stored["tags"])} if given else {}
        rows = (
            [[number[tag] for tag in own if tag in number] for own in self._own(given)] if given else [[]] * len(names)
        )
        return [(row or stored["items"].get(name, []))[: self.most] for name, row in zip(names, rows, strict=True)]

    def _no_tags(self, table: Source, trained: set[str]) -> InputError:
        every = np.arange(len(table))
        values = {name: [str(value) for value in table.column(name, every)] for name in table.schema}
        of_items = next((name for name, column in values.items() if not trained.isdisjoint(column)), "")
        known = f"{', '.join(values[self.item][:3])}; in the events {', '.join(sorted(trained)[:3])}"
        fix = "a table whose items are called what they are in the events"
        if of_items and of_items != self.item:
            fix = f"--task.tags.item {shlex.quote(of_items)}"
        return InputError("field task.tags.item", "no item of the training split has a tag.", found=known, fix=fix)

    def sizes(self) -> dict[str, int]:
        """``size``: how many tags there are."""
        return {"size": len(self._stored["tags"])}

    @property
    def notes(self) -> list[str]:
        """How many tags there are, how many items have none, and what was left out of the table, a line each."""
        stored = self._stored
        line = f"tags: {len(stored['tags']):,} of {stored['trained']:,} items"
        line += f", {stored['bare']:,} of which have none" if stored["bare"] else ""
        return [line, *(f"table of items: {dropped}" for dropped in stored["dropped"])]

    def pairs(self, items: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tags of each of ``items``: its place (m,) int32, rising, the tag (m,) int32, and 1 over the number of the
        item's tags (m,) float32."""
        known = self._stored["items"]
        rows = [known.get(name, ()) for name in items]
        counts = np.array([len(row) for row in rows], np.int64)
        tags = np.array([tag for row in rows for tag in row], np.int32)
        return (
            np.repeat(np.arange(len(rows), dtype=np.int32), counts),
            tags,
            np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32),
        )

    @property
    def _stored(self) -> dict[str, Any]:
        return _content(self.file, changed(self.file))


@functools.lru_cache(maxsize=8)
def _content(file: str, written: int) -> dict[str, Any]:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> dict[str, Any]:
    tags, items = json_files.texts(content["tags"]), dict(content["items"])
    if any(not 0 <= int(tag) < len(tags) for own in items.values() for tag in own):
        raise ValueError("an item has a tag that is not there")
    dropped = json_files.texts(content["dropped"])
    return {
        "tags": tags,
        "items": items,
        "trained": int(content["trained"]),
        "bare": int(content["bare"]),
        "dropped": dropped,
    }
