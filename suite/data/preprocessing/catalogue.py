"""Catalogue: the names of the records that requests are compared with, by place."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed, is_missing
from suite.errors import InputError
from suite.runtime import json_files

CHUNK = 4096
"""Records read at a time."""


@dataclass(frozen=True, kw_only=True)
class Catalogue(Preprocessor):
    """Names of the records of ``Task.reference("predict")``, in their order.

    As a field of a task it is fitted on those records, and not on the training split. A codec that holds one knows what
    the places are called that a program answers with; where a bundle gets another catalogue, it is fitted again.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "item"
    """Field of the task that names the column of names."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``.

        Raises:
            InputError: a record has no name, or two have one.
        """
        names: list[str] = []
        for start in range(0, len(source), CHUNK):
            names += map(str, source.column(column, np.arange(start, min(start + CHUNK, len(source)))))
        seen: set[str] = set()
        twice = next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
        if twice is not None or any(map(is_missing, names)):
            problem = "must name each record of the catalogue, and no two alike."
            raise InputError(f'column "{column}"', problem, found=repr(twice or ""), fix="one record an item")
        path.write_text(json.dumps({"names": names}, ensure_ascii=False), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """A model agrees with none: a catalogue may have any number of records."""
        return {}

    @property
    def names(self) -> list[str]:
        """Names, by place."""
        return _stored(self.file, changed(self.file))[0]

    def places(self, lists: Sequence[Sequence[Any]]) -> tuple[list[list[int]], np.ndarray]:
        """The places of the names of each list that the catalogue has, and how many (b,) int32 of each it has not."""
        by_name = _stored(self.file, changed(self.file))[1]
        known = [[by_name[name] for name in row if name in by_name] for row in lists]
        unknown = [len(row) - len(kept) for row, kept in zip(lists, known, strict=True)]
        return known, np.array(unknown, np.int32)


@functools.lru_cache(maxsize=8)
def _stored(file: str, written: int) -> tuple[list[str], dict[str, int]]:
    names = [str(name) for name in json_files.read_object(Path(file))["names"]]
    return names, {name: place for place, name in enumerate(names)}
