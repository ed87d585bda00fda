"""Words of a text as units of an explanation, by the places of its tokens. Dims: l tokens of a row."""

from collections.abc import Sequence

import numpy as np

from suite.contracts.batch import Ragged
from suite.contracts.division import KEPT, Division, Unit
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.preprocessing.words import word_places
from suite.errors import InputError

MOST = 64
"""Units of a text: of more words, neighbours are one."""


def rows_of(tokens: Ragged) -> list[np.ndarray]:
    """The values of each row."""
    return np.split(tokens.values, np.cumsum(tokens.lengths)[:-1])


def word_units(text: str, column: str, places: np.ndarray, most: int = MOST) -> tuple[list[Unit], np.ndarray]:
    """The words of a text that have a token, and the word of each token (l,).

    Args:
        text: clean.
        column: the input that it is of.
        places: (l, 2) of each token: first character and the one behind the last, equal of special tokens.
        most: words; of more, neighbours are one.
    """
    words = word_places(text) or [(0, len(text))]
    starts = np.array([start for start, _ in words])
    real = places[:, 1] > places[:, 0]
    # A piece that crosses the end of a word, as some of signs do, is of the word that it begins in.
    owner = np.maximum(np.searchsorted(starts, places[:, 0], side="right") - 1, 0)
    used = np.unique(owner[real])
    size = max(-(-len(used) // most), 1)
    labels = np.where(real, np.searchsorted(used, owner) // size, KEPT).astype(np.int32)
    units = []
    for first in range(0, len(used), size):
        start, stop = words[used[first]][0], words[used[min(first + size, len(used)) - 1]][1]
        units.append(Unit(text[start:stop], column, (start, stop)))
    return units, labels


def text_divisions(texts: Sequence[str], column: str, tokenizer: Tokenizer, tokens: Ragged, key: str) -> list[Division]:
    """Of texts that are cut into tokens, their words.

    Args:
        texts: as a request holds them.
        column: the input.
        tokenizer: of the tokens.
        tokens: what it made of the texts.
        key: what the codec calls them.
    """
    cleaned = [clean(text) for text in texts]
    longest = int(max(tokens.lengths, default=1))
    located, places = tokenizer.located(cleaned, max(longest, 2))
    ends = np.cumsum(located.lengths)[:-1]
    hidden, about = hidden_token(tokenizer)
    divisions = []
    for text, row, where in zip(cleaned, rows_of(tokens), np.split(places, ends), strict=True):
        units, labels = word_units(text, column, where[: len(row)])
        padded = np.concatenate([labels, np.full(len(row) - len(labels), KEPT, np.int32)])
        blank = np.where(padded == KEPT, row, hidden).astype(row.dtype)
        divisions.append(Division(tuple(units), {key: padded}, {key: blank}, about, {column: text}))
    return divisions


def hidden_token(tokenizer: Tokenizer) -> tuple[int, str]:
    """The id that stands for an absent token, and how to say it."""
    try:
        return tokenizer.mask, "each token of an absent word is the one that stands for a hidden or unknown token"
    except InputError:
        return 0, "each token of an absent word is the first of the vocabulary"


def pair_divisions(
    first: Sequence[str], second: Sequence[str], columns: tuple[str, str], tokenizer: Tokenizer, tokens: Ragged
) -> list[Division]:
    """Of two texts that are read as one row, the words of both; arguments as of `text_divisions`."""
    sides = [[clean(text) for text in texts] for texts in (first, second)]
    longest = int(max(tokens.lengths, default=1)) + 2
    spread = []
    for texts in sides:
        located, places = tokenizer.located(texts, longest)
        ends = np.cumsum(located.lengths)[:-1]
        spread.append(list(zip(np.split(located.values, ends), np.split(places, ends), strict=True)))
    hidden, about = hidden_token(tokenizer)
    divisions = []
    for place, row in enumerate(rows_of(tokens)):
        units: list[Unit] = []
        labels, begin = np.full(len(row), KEPT, np.int32), 0
        for column, texts, located_rows in zip(columns, sides, spread, strict=True):
            ids, places = located_rows[place]
            real = places[:, 1] > places[:, 0]
            start, count = _found(row, ids[real], begin)
            own, words = word_units(texts[place], column, places[real][:count], MOST // 2)
            labels[start : start + count] = np.where(words == KEPT, KEPT, words + len(units))
            units, begin = [*units, *own], start + count
        blank = np.where(labels == KEPT, row, hidden).astype(row.dtype)
        texts_of = {column: texts[place] for column, texts in zip(columns, sides, strict=True)}
        divisions.append(Division(tuple(units), {"tokens": labels}, {"tokens": blank}, about, texts_of))
    return divisions


def _found(row: np.ndarray, ids: np.ndarray, begin: int) -> tuple[int, int]:
    """Where in a row, from ``begin`` on, the longest beginning of ``ids`` stands, and how long that is."""
    best = (begin, 0)
    for start in range(begin, len(row)):
        size = min(len(ids), len(row) - start)
        different = np.flatnonzero(row[start : start + size] != ids[:size])
        equal = int(different[0]) if len(different) else size
        if equal > best[1]:
            best = (start, equal)
    return best


def ngram_divisions(texts: Sequence[str], column: str, ngrams: NGrams, ids: Ragged, key: str) -> list[Division]:
    """Of texts that are taken apart into n-grams, each n-gram; ``key`` is what the codec calls their weights."""
    names = ngrams.names
    about = "an absent n-gram has the weight 0"
    divisions = []
    for text, row in zip(texts, rows_of(ids), strict=True):
        units = tuple(Unit(names[number], column) for number in row.tolist())
        labels = np.arange(len(row), dtype=np.int32)
        divisions.append(Division(units, {key: labels}, {key: None}, about, {column: clean(text)}))
    return divisions
