"""Units of texts: what a tagger labels, the smallest parts that are whole words and whole tokens.

A word of several tokens is one unit, labelled at its first token; words that share a token are one unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suite.contracts.batch import Ragged
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.preprocessing.words import cleaned, word_places


@dataclass(frozen=True)
class Units:
    """Tokens of b texts, and the units in them.

    Attributes:
        tokens: int32 ids.
        at: b arrays (u,), the place of each unit's first token in its row.
        places: b arrays (u, 2), characters of the given text: the first, and the one behind the last.
        unread: (b,) words of each text that lie behind its last token.
    """

    tokens: Ragged
    at: list[np.ndarray]
    places: list[np.ndarray]
    unread: np.ndarray


def units(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Units:
    """Tokens and units of texts as they were given.

    Args:
        tokenizer: it says where its tokens stand.
        texts: b texts.
        max_length: tokens that a text is cut at.
    """
    words = [word_places(text) for text in texts]
    clean = [cleaned(text, places) for text, places in zip(texts, words, strict=True)]
    tokens, token_places = tokenizer.located([text for text, _ in clean], max_length)
    at, places, unread = [], [], []
    ends = np.cumsum(tokens.lengths)[:-1]
    for given, (_, inside), row in zip(words, clean, np.split(token_places, ends), strict=True):
        firsts, groups = _grouped(row, np.array(inside, np.int64).reshape(-1, 2))
        at.append(firsts)
        starts = np.array([given[first][0] for first, _ in groups], np.int64)
        places.append(np.stack([starts, np.array([given[last][1] for _, last in groups], np.int64)], 1))
        unread.append(len(given) - 1 - groups[-1][1] if groups else len(given))
    return Units(tokens, at, places, np.array(unread, np.int64))


def _grouped(tokens: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """First token of each unit, and its first and last word, from places (t, 2) and (w, 2) in one text."""
    firsts: list[int] = []
    groups: list[tuple[int, int]] = []
    of_first = np.searchsorted(words[:, 1], tokens[:, 0], "right").tolist()
    of_last = (np.searchsorted(words[:, 0], tokens[:, 1], "left") - 1).tolist()
    for token, (first, last) in enumerate(zip(of_first, of_last, strict=True)):
        if first > last or tokens[token, 0] == tokens[token, 1]:
            continue  # special tokens and blanks
        if groups and first <= groups[-1][1]:
            groups[-1] = groups[-1][0], max(last, groups[-1][1])
        else:
            firsts.append(token)
            groups.append((first, last))
    return np.array(firsts, np.int64), groups
