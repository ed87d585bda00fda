"""Characters as tokens: the smallest vocabulary, learnt from the training split."""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.text import BEGIN, END, PAD, UNKNOWN
from suite.data.reading import changed
from suite.errors import InputError
from suite.runtime import json_files

_FIRST = max(PAD, UNKNOWN, BEGIN, END) + 1
"""Id of the first character; 0 is padding, 1 unknown, 2 the beginning and 3 the end, as in every vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Characters(Preprocessor):
    """One id for each character of the training texts, which are taken as they are."""

    suffix: ClassVar[str] = ".json"

    column: str = "text"
    """Field of the task that names the column of texts."""

    most: int = 10_000
    """Most characters; of more, the frequent ones."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the characters to ``path``.

        Raises:
            InputError: there is no text.
        """
        counts: Counter[str] = Counter()
        for start in range(0, len(source), 1000):
            for text in source[np.arange(start, min(start + 1000, len(source)))][column]:
                counts.update(str(text))
        if not counts:
            raise InputError(f"column {column}", "there is no text to learn characters from", found="0 characters")
        frequent = sorted(character for character, _ in counts.most_common(self.most))
        path.write_text(json.dumps(frequent, ensure_ascii=True), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """``vocab_size``: characters, and the four ids before them."""
        return {"vocab_size": len(self.names) + _FIRST}

    @property
    def names(self) -> list[str]:
        """The characters, by id from 4 on."""
        return _stored(self.file, changed(self.file))[0]

    def encode(self, texts: Sequence[str], max_length: int) -> Ragged:
        """Ids (int32) of each text, cut at ``max_length``; a character not known is 1."""
        table = _stored(self.file, changed(self.file))[1]
        rows = [[table.get(character, UNKNOWN) for character in str(text)[:max_length]] for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)

    def decode(self, ids: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
        """Text of each row of ids; padding and other control ids leave no trace, unknown is U+FFFD."""
        names = self.names
        known = dict(enumerate(names, _FIRST)) | dict.fromkeys((PAD, BEGIN, END), "")
        return ["".join(known.get(int(i), "\ufffd") for i in row) for row in ids]


@functools.lru_cache(maxsize=16)
def _stored(file: str, written: int) -> tuple[list[str], dict[str, int]]:
    names = json_files.load(file, json_files.texts)
    return names, {name: place + _FIRST for place, name in enumerate(names)}
