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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor, padded_rows
from suite.data.preprocessing.text import clean
from suite.data.reading import changed, is_missing
from suite.data.sources.memory import evenly_spaced
from suite.errors import InputError
from suite.runtime import json_files

COUNTED = 5_000_000
"""N-grams that are counted at a time; beyond it those that occurred once are forgotten."""
REMEMBERED = 200_000
"""Words whose n-grams of characters are remembered."""
LONGEST = 50
"""Words or characters of an n-gram, at most: each of them is made of each text."""

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = (
    "!-/:-@\\[-`{-~\u00a1-\u00bf\u00d7\u00f7\u0964\u0965\u2010-\u2bff\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20"
    "\uff3b-\uff40\uff5b-\uff65"
)
_WITHIN = "  "
_NONE = np.zeros(0, np.int64)
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
    number_bounds: ClassVar[Bounds] = {
        "words": (0, LONGEST),
        "characters": (1, LONGEST),
        "max_words": LENGTH,
        "max_ngrams": LENGTH,
    }

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
    max_ngrams: int = 4000
    """N-grams of a text that are used: of more, those that the most training texts have."""
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
        for name, longest in (("words", self.words), ("characters", max(self.characters, default=0))):
            if longest > LONGEST:
                raise InputError(
                    f"field {name} of n-grams", f"must be at most {LONGEST}", found=str(longest), fix=f"{name} 2"
                )
        least = {"min_count": 0, "most": 1, "max_words": 1, "max_ngrams": 1, "max_texts": 1}  # 0: left open by a recipe
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InputError(
                    f"field {name} of n-grams", f"must be at least {smallest}", found=str(getattr(self, name))
                )
        super().__post_init__()

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Counts the n-grams of the training texts and writes those that are kept, with their idf, to ``path``.

        Raises:
            InputError: no n-gram occurs in ``min_count`` texts.
        """
        chosen = evenly_spaced(source, self.max_texts)
        counts: Counter[str] = Counter()
        for start in range(0, len(chosen), 1000):
            for text in source.column(column, chosen[start : start + 1000]):
                words = self._words(text)
                within = [gram for word in set(words) for gram in self._of_characters(word)]
                counts.update({*self._of_words(words), *within})
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

    @property
    def longest(self) -> int:
        """Most n-grams of a text."""
        return self.max_ngrams if self.characters else min(self.words * self.max_words, self.max_ngrams)

    def sizes(self) -> dict[str, int]:
        """``rows`` of the table: a few more than n-grams, so that any usual number of devices can share it."""
        return {"rows": padded_rows(len(_read(self.file, changed(self.file)).idf))}

    @property
    def names(self) -> list[str]:
        """N-grams by row; those of characters between dots."""
        return [
            f"·{gram.removeprefix(_WITHIN)}·" if gram.startswith(_WITHIN) else gram
            for gram in _read(self.file, changed(self.file)).places
        ]

    def encode(self, texts: Sequence[Any] | np.ndarray) -> tuple[Ragged, Ragged]:
        """Rows int32 and weights float32 of the n-grams of each of b texts, of the same lengths, the n-grams of most
        training texts first. A missing text has none."""
        known = _read(self.file, changed(self.file))
        found = [self._ids(text, known) for text in texts]
        size = max(len(known.idf), 1)
        owners = np.repeat(np.arange(len(found)), [len(ids) for ids in found])
        keys, counts = np.unique(owners * size + np.concatenate([_NONE, *found]), return_counts=True)
        owners, ids = keys // size, keys % size
        place = np.arange(len(ids)) - np.searchsorted(owners, owners)
        owners, ids, counts = (values[place < self.max_ngrams] for values in (owners, ids, counts))
        weights = (1 + np.log(counts)) * known.idf[ids]
        groups = 2 * owners + known.of_characters[ids]
        weights /= np.sqrt(np.bincount(groups, weights**2))[groups]
        lengths = np.bincount(owners, minlength=len(found))
        return (
            Ragged(ids.astype(np.int32), lengths, axis=self.axis),
            Ragged(weights.astype(np.float32), lengths, axis=self.axis),
        )

    def _ids(self, text: Any, known: "_Vocabulary") -> np.ndarray:
        """Rows of the known n-grams of a text, in no order, repeated where they are."""
        words, places = self._words(text), known.places
        ids = [np.array([places[gram] for gram in self._of_words(words) if gram in places], np.int64)]
        for word in words if self.characters else ():
            if word not in known.within:
                if len(known.within) > REMEMBERED:
                    known.within.clear()
                grams = self._of_characters(word)
                known.within[word] = np.array([places[gram] for gram in grams if gram in places], np.int64)
            ids.append(known.within[word])
        return np.concatenate(ids)

    def _words(self, text: Any) -> list[str]:
        """The words of a text that are read."""
        # Words of more than 50 characters on average are none: what lies far behind is not looked through for them.
        content = "" if is_missing(text) else clean(str(text)[: 50 * self.max_words])
        return _WORDS.findall(content.lower() if self.lowercase else content)[: self.max_words]

    def _of_words(self, words: list[str]) -> list[str]:
        return [" ".join(words[i : i + n]) for n in range(1, self.words + 1) for i in range(len(words) - n + 1)]

    def _of_characters(self, word: str) -> list[str]:
        """The n-grams of characters within a word; two blanks tell them from words."""
        within = f" {word[:50]} "
        return [f"{_WITHIN}{within[i : i + n]}" for n in self.characters for i in range(len(within) - n + 1)]


@dataclass(frozen=True)
class _Vocabulary:
    """What a file holds.

    Attributes:
        places: row by n-gram.
        idf: (n,) by row.
        of_characters: (n,) 1 where the n-gram is one of characters, else 0.
        within: rows of the n-grams of characters by word, of words met so far.
    """

    places: dict[str, int]
    idf: np.ndarray
    of_characters: np.ndarray
    within: dict[str, np.ndarray]


@functools.lru_cache(maxsize=8)
def _read(file: str, written: int) -> _Vocabulary:
    return json_files.load(file, _of_content)


def _of_content(content: Any) -> _Vocabulary:
    grams = json_files.texts(content["ngrams"])
    of_characters = np.array([gram.startswith(_WITHIN) for gram in grams], np.int64)
    places = {gram: row for row, gram in enumerate(grams)}
    return _Vocabulary(places, np.asarray(content["idf"], np.float64), of_characters, {})
