"""Items: what can be recommended, learnt from the histories of the training split."""

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.reading import changed
from suite.errors import InputError
from suite.runtime import json_files

FIRST = 2
"""Number of the first item: before it are `PADDING` and `BEGINNING`."""
PADDING, BEGINNING = 0, 1
CHUNK = 4096
"""Records read at a time."""


@dataclass(frozen=True, kw_only=True)
class Items(Preprocessor):
    """The items of the training split, the most frequent first, those of one frequency by name: so is their number,
    from `FIRST` on, and the order in which equal scores are ranked."""

    suffix: ClassVar[str] = ".json"

    column: str = "events"
    """Field of the task that names the column of lists of items."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes names and frequencies to ``path``; items of ``source.others``, where it has such, are of no event.

        Raises:
            InputError: there are fewer than two items.
        """
        counts: Counter[str] = Counter()
        for start in range(0, len(source), CHUNK):
            for row in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
                counts.update(row)
        counts.update(dict.fromkeys(getattr(source, "others", ()), 0))
        if len(counts) < 2:
            raise InputError(f"column {column}", "there is only one item to recommend", found=", ".join(counts))
        names = sorted(counts, key=lambda name: (-counts[name], name))
        split = getattr(source, "by", "")
        content = {"names": names, "counts": [counts[name] for name in names], "split": split}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def write(self, names: Sequence[str], path: Path) -> "Items":
        """Items of these names, in their order, written to ``path``: a catalogue of others."""
        known = dict(zip(self.names, self.counts.tolist(), strict=True))
        content = {"names": list(names), "counts": [known.get(name, 0) for name in names]}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return replace(self, file=str(path))

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: the items, and what stands before them."""
        return {"vocab_size": FIRST + len(self.names)}

    @property
    def names(self) -> list[str]:
        """Names, by number less `FIRST`."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def counts(self) -> np.ndarray:
        """(n,) training events of each."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def split(self) -> str:
        """How the events were split that they were learnt from; empty where that was not kept."""
        return _stored(self.file, changed(self.file))[3]

    def number(self, names: Sequence[Any]) -> np.ndarray:
        """The numbers (n,) int32 of items by name, 0 of those that are not known."""
        places = _stored(self.file, changed(self.file))[2]
        return np.array([places.get(name, 0) for name in names], np.int32)

    def numbers(self, lists: Sequence[Sequence[Any]]) -> tuple[list[list[int]], np.ndarray]:
        """The numbers of the known items of each list, and how many (b,) int32 of each are not known."""
        places = _stored(self.file, changed(self.file))[2]
        known = [[places[name] for name in row if name in places] for row in lists]
        unknown = [len(row) - len(kept) for row, kept in zip(lists, known, strict=True)]
        return known, np.array(unknown, np.int32)


@functools.lru_cache(maxsize=8)
def _stored(file: str, written: int) -> tuple[list[str], np.ndarray, dict[str, int], str]:
    def build(content: Any) -> tuple[list[str], np.ndarray, dict[str, int], str]:
        names, counts = json_files.texts(content["names"]), np.array(content["counts"], np.int64)
        if counts.shape != (len(names),):
            raise ValueError(f"{len(names)} names, counts of shape {counts.shape}")
        places = {name: place for place, name in enumerate(names, FIRST)}
        return names, counts, places, str(content.get("split", ""))

    return json_files.load(file, build)
