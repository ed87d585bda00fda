"""Passages: long texts cut at white space, each a record."""

from typing import Any

import numpy as np

from suite.contracts.data import Source


class Passages(Source):
    """The texts of a source in passages of at most ``length`` characters; nothing of a text is left out but the white
    space that it is cut at. A word that is longer is cut.

    Columns: the text, and ``record``, the place of the record that it is of.

    Args:
        source: records.
        column: of texts.
        length: characters of a passage at most.
    """

    def __init__(self, source: Source, column: str, length: int):
        self._source, self._column, self.length = source, column, length
        self.texts = len(source)
        self._texts = [str(text) for text in source.column(column, np.arange(len(source)))]
        cuts = [(place, *span) for place, text in enumerate(self._texts) for span in passages(text, length)]
        self._cuts = np.array(cuts, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._cuts)

    @property
    def schema(self) -> dict[str, str]:
        """The text column and ``record``."""
        return {self._column: "text", "record": "int"}

    @property
    def dropped(self) -> dict[str, int]:
        """Those of the source."""
        return self._source.dropped

    @property
    def dropped_names(self) -> dict[str, list[str]]:
        """Those of the source."""
        return self._source.dropped_names

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the source."""
        return self._source.notes

    def record_names(self, indices: np.ndarray) -> list[str]:
        return self._source.record_names(self._cuts[np.asarray(indices), 0])

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        chosen = self._cuts[np.asarray(indices)]
        texts = [self._texts[place][start:end] for place, start, end in chosen.tolist()]
        return {self._column: texts, "record": chosen[:, 0]}


def passages(text: str, length: int) -> list[tuple[int, int]]:
    """First character of each passage of a text and the one behind its last. Passages are about equally long."""
    size = len(text.rstrip())
    found: list[tuple[int, int]] = []
    start = len(text) - len(text.lstrip())
    while start < size:
        left = -(-(size - start) // length)
        end = start - (start - size) // left  # the remaining passages are equally long
        if end < size:
            behind = next((place for place in range(end, start + length + 1) if text[place].isspace()), 0)
            before = next((place for place in range(end, start, -1) if text[place].isspace()), end)
            end = behind or before
        found.append((start, end))
        start = end
        while start < size and text[start].isspace():
            start += 1
    return found
