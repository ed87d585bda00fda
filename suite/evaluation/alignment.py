"""Two sequences of words laid beside each other with the fewest edits (Levenshtein, 1966)."""

from collections.abc import Sequence

import numpy as np

Pair = tuple[str, str]
"""A word that was wanted and the one that stands for it; ``""`` where a word was left out or put in."""


def align(wanted: Sequence[str], answered: Sequence[str]) -> list[Pair]:
    """Pairs in order: equal words, substitutions, ``(word, "")`` for one left out, ``("", word)`` for one put in.

    The pairs that are not equal are as few as can be: their number is what a word error rate counts.
    """
    costs = _costs(wanted, answered)
    i, j = len(wanted), len(answered)
    pairs: list[Pair] = []
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + (wanted[i - 1] != answered[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((wanted[i], answered[j]))
        elif i and costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
            pairs.append((wanted[i], ""))
        else:
            j -= 1
            pairs.append(("", answered[j]))
    return pairs[::-1]


def edits(pairs: Sequence[Pair]) -> int:
    """How many pairs are not equal."""
    return sum(wanted != answered for wanted, answered in pairs)


def _costs(wanted: Sequence[str], answered: Sequence[str]) -> np.ndarray:
    """(n + 1, m + 1) int32: the fewest edits between the first i and the first j words."""
    places = {word: place for place, word in enumerate({*wanted, *answered})}
    rows, columns = (np.array([places[word] for word in words], np.int64) for words in (wanted, answered))
    steps = np.arange(len(answered) + 1)
    costs = np.empty((len(wanted) + 1, len(answered) + 1), np.int32)
    costs[0] = steps
    for i, word in enumerate(rows, 1):
        costs[i, 0] = i
        costs[i, 1:] = np.minimum(costs[i - 1, 1:] + 1, costs[i - 1, :-1] + (columns != word))
        # A word put in costs 1 more than what stands to its left, however many of them follow each other.
        costs[i] = np.minimum.accumulate(costs[i] - steps) + steps
    return costs
