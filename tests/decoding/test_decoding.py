"""Greedy and beam search against every alignment of tiny cases, and n-gram models against their definition."""

import itertools
import math
import tarfile

import numpy as np
import pytest

from suite.data.sources.datasets import Memory
from suite.decoding import Beam, Greedy, NGrams
from suite.decoding.ctc import Rules
from suite.decoding.ngrams import count_ngrams, read_arpa, write_arpa
from suite.errors import InputError

UNITS = ["", " ", "a", "b"]
ARPA = r"""
a comment
\data\
ngram 1=5
ngram 2=3

\1-grams:
-1.0 <unk>
-0.5 </s> 0.0
-99 <s> -0.2
-0.4 a -0.3
-0.8 ab -0.1

\2-grams:
-0.1 <s> a
-0.3 a ab
-0.2 ab </s>

\end\
"""


def log_probs(seed, frames=5, symbols=4):
    x = 2 * np.random.default_rng(seed).standard_normal((frames, symbols))
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def collapse(path):
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def every_transcript(frames):
    """Symbols -> log probability of all their alignments."""
    found = {}
    for path in itertools.product(range(frames.shape[1]), repeat=len(frames)):
        score = frames[np.arange(len(frames)), path].sum()
        found[collapse(path)] = np.logaddexp(found.get(collapse(path), -np.inf), score)
    return found


def spell(symbols):
    return "".join(UNITS[i] for i in symbols).split()


def test_greedy_is_the_best_path():
    frames = np.log(
        np.array(
            [
                [0.1, 0.0, 0.8, 0.1],
                [0.1, 0.0, 0.8, 0.1],
                [0.9, 0.0, 0.1, 0.0],
                [0.1, 0.0, 0.9, 0.0],
                [0.1, 0.0, 0.1, 0.8],
                [0.0, 0.0, 0.1, 0.9],
            ]
        )
        + 1e-9
    )
    assert Greedy()(np.stack([frames, frames]), np.array([6, 4]), UNITS) == [[2, 2, 3], [2, 2]]


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_most_probable_transcript(seed):
    frames = log_probs(seed)
    expected = every_transcript(frames)
    beam = Beam(width=1000, alpha=0.0, beta=0.0, cutoff=-99)
    ranked = beam.search(frames, Rules(beam, UNITS, None))
    assert {tuple(symbols) for symbols, _ in ranked} == set(expected)
    for symbols, score in ranked:
        np.testing.assert_allclose(score, expected[tuple(symbols)], atol=1e-9)
    (found,) = beam(frames[None], np.array([5]), UNITS)
    assert tuple(found) == max(expected, key=expected.get)


@pytest.mark.parametrize("lexicon", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_weighs_words_as_the_model_does(seed, lexicon):
    frames, words = log_probs(seed), read_arpa(ARPA, "test")
    beam = Beam(width=1000, alpha=0.7, beta=0.4, lexicon=lexicon, cutoff=-99)
    expected = {}
    for symbols, score in every_transcript(frames).items():
        said = spell(symbols)
        if not lexicon or all(word in words.words for word in said):
            expected[symbols] = score + 0.7 * words.sentence(said) + 0.4 * len(said)
    found = {
        tuple(symbols): score for symbols, score in beam.search(frames, Rules(beam, UNITS, words)) if score > -math.inf
    }
    assert found.keys() == expected.keys()
    for symbols, score in found.items():
        np.testing.assert_allclose(score, expected[symbols], atol=1e-9)


def test_a_narrow_beam_is_close_and_keeps_its_width():
    frames = log_probs(9, frames=7)
    beam = Beam(width=8, alpha=0.0, beta=0.0)
    found = beam.search(frames, Rules(beam, UNITS, None))
    assert len(found) <= 8
    assert tuple(found[0][0]) == max(every_transcript(frames), key=every_transcript(frames).get)


def test_the_model_changes_what_is_heard():
    """The frames slightly prefer "b", which the model has never seen; its word is "a"."""
    frames = np.log(np.array([[[0.02, 0.02, 0.46, 0.5], [0.96, 0.01, 0.02, 0.01]]]))
    words = read_arpa(ARPA, "test")
    assert Beam(alpha=0.0, beta=0.0)(frames, np.array([2]), UNITS, words) == [[3]]
    assert Beam(alpha=1.0, beta=0.0)(frames, np.array([2]), UNITS, words) == [[2]]
    with pytest.raises(InputError, match=r"field decoder\.lexicon: needs a model of words"):
        Beam(lexicon=True)(frames, np.array([2]), UNITS)


def test_back_off():
    model, ln10 = read_arpa(ARPA, "test"), math.log(10)
    assert model.order == 2 and model.words == {"a", "ab"}
    assert model.score(("<s>",), "a") == pytest.approx(-0.1 * ln10)
    assert model.score(("a",), "a") == pytest.approx((-0.3 - 0.4) * ln10)
    assert model.score(("a",), "other") == pytest.approx((-0.3 - 1.0) * ln10)
    assert model.score(("other",), "ab") == pytest.approx(-0.8 * ln10)
    assert model.sentence(["a", "ab"]) == pytest.approx((-0.1 - 0.3 - 0.2) * ln10)
    assert read_arpa(ARPA.replace(" ab", " AB"), "test", fold=True).words == {"a", "ab"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("\\data\\", "data", "test: this is no ARPA file: it has no line \\data\\"),
        ("-0.4 a -0.3", "a -0.4", "test, line 11: this is no entry of a 1-gram\n  found: a -0.4"),
        ("-0.3 a ab\n", "", "test: its header counts 3 2-grams\n  found: 2"),
    ],
)
def test_damaged_models_are_refused(before, after, message):
    with pytest.raises(InputError) as error:
        read_arpa(ARPA.replace(before, after), "test")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_counted_model_is_a_distribution(order):
    sentences = [text.split() for text in ("a b a", "a b", "b a b a", "c", "a c b")]
    model = read_arpa(write_arpa(count_ngrams(sentences, order)), "test")
    assert model.order == order
    for context in (("<s>",), ("a",), ("b",), ("a", "b"), ("<s>", "a"), ("never",)):
        total = sum(math.exp(model.score(context, word)) for word in ("a", "b", "c", "</s>", "<unk>"))
        assert total == pytest.approx(1, abs=1e-4)
    if order > 1:
        assert model.score(("<s>",), "a") > model.score((), "a") and model.score(("a",), "b") > model.score((), "b")


def test_a_model_is_taken_from_an_archive_or_counted(tmp_path):
    (tmp_path / "m.arpa").write_text(ARPA)
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "m.arpa", "etc/m.arpa")
    source = Memory({"text": ["a b", "b a"]})
    for made in (NGrams(arpa=f"{tmp_path}/all.tar.gz:etc/m.arpa"), NGrams(arpa=str(tmp_path / "m.arpa"))):
        made.fit(source, "text", tmp_path / "fitted.arpa")
        assert NGrams(file=str(tmp_path / "fitted.arpa")).model().words == {"a", "ab"}
    NGrams().fit(source, "text", tmp_path / "counted.arpa")
    assert NGrams(file=str(tmp_path / "counted.arpa")).model().words == {"a", "b"}
    with pytest.raises(InputError, match="there is no such file in this archive"):
        NGrams(arpa=f"{tmp_path}/all.tar.gz:etc/other.arpa").fit(source, "text", tmp_path / "x.arpa")
