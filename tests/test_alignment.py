"""Words laid beside each other: as few edits as can be, and nothing lost."""

import jiwer
import numpy as np
import pytest

from suite.evaluation.alignment import align, edits


@pytest.mark.parametrize(
    ("wanted", "answered", "pairs"),
    [
        ("", "", []),
        ("a b", "", [("a", ""), ("b", "")]),
        ("", "a", [("", "a")]),
        ("one two three", "one too three", [("one", "one"), ("two", "too"), ("three", "three")]),
        ("one two three", "one three", [("one", "one"), ("two", ""), ("three", "three")]),
        ("one three", "one two three", [("one", "one"), ("", "two"), ("three", "three")]),
    ],
)
def test_pairs(wanted, answered, pairs):
    assert align(wanted.split(), answered.split()) == pairs


def test_no_alignment_has_fewer_edits():
    """Beside another library's, on sentences that share some words."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        wanted, answered = (rng.choice(list("abcde"), rng.integers(1, 12)).tolist() for _ in range(2))
        pairs = align(wanted, answered)
        assert [w for w, _ in pairs if w] == wanted and [a for _, a in pairs if a] == answered
        found = jiwer.process_words(" ".join(wanted), " ".join(answered))
        assert edits(pairs) == found.substitutions + found.deletions + found.insertions


def test_long_texts_take_no_time_to_speak_of():
    words = np.random.default_rng(0).choice(list("abcdefgh"), 1500).tolist()
    assert edits(align(words, words[1:] + ["x"])) == 2
