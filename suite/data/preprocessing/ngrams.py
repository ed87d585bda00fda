"""N-grams of words and characters with their tf-idf weights, learnt from the training split. Dims: b texts, n n-grams.

Weights are those of scikit-learn's ``TfidfVectorizer`` with ``sublinear_tf``: ``(1 + log count) * idf`` with
``idf = 1 + log((1 + texts) / (1 + texts with the n-gram))``, the n-grams of words of a text scaled to length 1, and so
those of characters.
"""

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.text import clean
from suite.data.reading import changed
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError

COUNTED = 5_000_000
"""N-grams that are counted at a time; beyond it those that occurred once are forgotten."""
ROWS_MULTIPLE = 64
"""Of which the rows of the table are a multiple."""

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = (
    "!-/:-@\\[-`{-~\u00a1-\u00bf\u00d7\u00f7\u0964\u0965\u2010-\u2bff\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20"
    "\uff3b-\uff40\uff5b-\uff65"
)
_LETTERS = f"[^\\s{_MARKS}{_IDEOGRAPHS}]+"
_WORDS = re.compile(f"{_LETTERS}(?:['\u2019]{_LETTERS})*|[{_IDEOGRAPHS}]|[{_MARKS}]+")
"""A word is a run of letters and digits, of any script, an apostrophe in it included; a run of marks; or one character
of Chinese and Japanese, whose words no blank parts."""


@dataclass(frozen=True, kw_only=True)
class NGrams(Preprocessor):
    """A text as the n-grams in it, by the row of each, with its weight.

    The vocabulary is learnt; n-grams outside it are left out, and a text with none in it is empty.
    """

    suffix: ClassVar[str] = ".json"

    column: str = "text"
    """Field of the task that names the column of texts."""
    words: int = 2
    """Longest n-gram of words. 0: none."""
    characters: tuple[int, ...] = ()
    """Lengths of n-grams of characters, which lie within a word and the blanks around it."""
    min_count: int = 2
    """Training texts below which an n-gram has no row."""
    most: int = 200_000
    """Most n-grams to keep: those in the most texts."""
    max_words: int = 1000
    """Words that a text is cut at."""
    lowercase: bool = True
    """Fold case."""
    axis: str = "ngrams"
    """Axis of the batch that rows run along; empty: the default one, by which texts of similar lengths are batched."""
    max_texts: int = 200_000
    """Most texts to learn from; of more, an evenly spaced selection."""

    def __post_init__(self):
        if self.words < 0 or any(length < 1 for length in self.characters) or not (self.words or self.characters):
            raise InputError(
                "field words or characters of n-grams",
                "no n-gram is to be made.",
                found=f"words {self.words}, characters {self.characters}",
                fix="words 2, or characters 3 4 5",
            )

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Counts the n-grams of the training texts and writes those that are kept, with their idf, to ``path``.

        Raises:
            InputError: no n-gram occurs in ``min_count`` texts.
        """
        chosen = evenly_spaced(source, self.max_texts)
        counts: Counter[str] = Counter()
        for start in range(0, len(chosen), 1000):
            for text in source.column(column, chosen[start : start + 1000]):
                counts.update(set().union(*map(set, self._grams(text))))
            if len(counts) > COUNTED:
                counts = Counter({gram: count for gram, count in counts.items() if count > 1})
        frequent = [(gram, count) for gram, count in counts.items() if count >= self.min_count]
        kept = sorted(frequent, key=lambda pair: (-pair[1], pair[0]))[: self.most]
        if not kept:
            raise InputError(
                f"column {column}",
                f"no n-gram occurs in {self.min_count} texts: there is nothing to learn from.",
                found=f"{len(chosen):,} texts with {len(counts):,} n-grams",
                fix="name the column of texts, or add texts",
            )
        idf = [round(1 + math.log((1 + len(chosen)) / (1 + count)), 6) for _, count in kept]
        stored = {"ngrams": [gram for gram, _ in kept], "idf": idf}
        path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    def sizes(self) -> dict[str, int]:
        """``rows`` of the table: a few more than n-grams, so that any usual number of devices can share it."""
        return {"rows": -(-len(self._stored[0]) // ROWS_MULTIPLE) * ROWS_MULTIPLE}

    def encode(self, texts: Sequence[Any] | np.ndarray) -> tuple[Ragged, Ragged]:
        """Rows int32 and weights float32 of the n-grams of each of b texts, of the same lengths. A missing text has
        none."""
        places, idf = self._stored
        ids: list[int] = []
        counts: list[int] = []
        scales: list[tuple[int, int]] = []  # end of each group that is scaled to length 1, and its text
        lengths = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            begin = len(ids)
            for kind in self._grams(text):
                for gram, count in Counter(kind).items():
                    place = places.get(gram)
                    if place is not None:
                        ids.append(place)
                        counts.append(count)
                scales.append((len(ids), row))
            lengths[row] = len(ids) - begin
        rows = np.asarray(ids, np.int32)
        weights = (1 + np.log(np.asarray(counts, np.float64))) * idf[rows]
        groups = np.repeat(np.arange(len(scales)), np.diff([end for end, _ in scales], prepend=0))
        norms = np.sqrt(np.bincount(groups, weights**2, minlength=len(scales)))
        weights /= norms[groups]
        return (Ragged(rows, lengths, axis=self.axis), Ragged(weights.astype(np.float32), lengths, axis=self.axis))

    def _grams(self, text: Any) -> Iterable[list[str]]:
        """The n-grams of words of a text, where words are asked for, and those of characters."""
        # A word of more than 50 characters on average is none: it is not looked for in what lies far behind.
        content = "" if _is_missing(text) else clean(str(text)[: 50 * self.max_words])
        words = _WORDS.findall(content.lower() if self.lowercase else content)[: self.max_words]
        if self.words:
            yield [" ".join(words[i : i + n]) for n in range(1, self.words + 1) for i in range(len(words) - n + 1)]
        if self.characters:  # two blanks tell them from words
            within = [f" {word[:50]} " for word in words]
            lengths = self.characters
            yield [f"  {word[i : i + n]}" for word in within for n in lengths for i in range(len(word) - n + 1)]

    @property
    def _stored(self) -> tuple[dict[str, int], np.ndarray]:
        return _read(self.file, changed(self.file))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and value != value)


@functools.lru_cache(maxsize=8)
def _read(file: str, written: int) -> tuple[dict[str, int], np.ndarray]:
    """Row by n-gram, and idf by row."""
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    return {gram: row for row, gram in enumerate(content["ngrams"])}, np.asarray(content["idf"], np.float64)
