"""Text: cleaning, tokenizer, token dropout."""

import dataclasses
import pickle

import numpy as np
import pytest

from suite.contracts.batch import Ragged
from suite.data.preprocessing.text import SentencePiece, clean, clean_mask, token_dropout
from suite.data.sources.datasets import Memory, SyntheticSentiment


@pytest.fixture(scope="module")
def source():
    return SyntheticSentiment(examples=1000).open("train")


@pytest.fixture(scope="module")
def tokenizer(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("assets") / "tokenizer.model"
    SentencePiece(vocab_size=200).fit(source, "text", path)
    return SentencePiece(vocab_size=200, file=str(path))


def test_clean():
    assert clean("a<br />b<BR>c\x00\u200b  \t d\n") == "a b c d"
    assert clean("cafe\u0301") == "caf\u00e9"


def test_clean_mask_counts_reasons():
    keep, counts = clean_mask(
        ["fine", "", " \n", None, float("nan"), "\ufffd\ufffd\ufffd", "one \ufffd in a long text"]
    )
    assert keep.tolist() == [True, False, False, False, False, False, True]
    assert counts == {"empty": 2, "broken": 3}


def test_rows_begin_with_the_begin_id_and_are_cut(tokenizer):
    tokens = tokenizer.encode(["the film is good .", "", "the plot was not very dull and the cast is superb"], 6)
    starts = np.cumsum(tokens.lengths) - tokens.lengths
    assert tokens.values.dtype == np.int32 and tokens.values[starts].tolist() == [2, 2, 2]
    assert tokens.lengths[1] == 1 and tokens.lengths.max() == 6


def test_round_trip_folds_case(tokenizer):
    text = "the film is not really good"
    tokens = tokenizer.encode([text.upper()], 64)
    assert tokenizer.decode([tokens.values]) == [text]
    assert tokenizer.decode(tokens.padded(64)[0]) == [text]


def test_same_texts_give_the_same_model(source, tmp_path):
    for name in ("a", "b"):
        SentencePiece(vocab_size=120).fit(source, "text", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word"])
def test_small_corpus_gives_the_largest_vocabulary(kind, tmp_path):
    tokenizer = SentencePiece(vocab_size=8000, kind=kind)
    tokenizer.fit(Memory({"text": ["a small corpus", "of two short texts"]}), "text", tmp_path / "t.model")
    size = dataclasses.replace(tokenizer, file=str(tmp_path / "t.model")).sizes()["vocab_size"]
    assert 10 <= size < 200


def test_sampling_is_seeded_and_varies(tokenizer, source):
    texts = source[np.arange(50)]["text"]
    first, again, other = (tokenizer.encode(texts, 64, np.random.default_rng(seed)).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, tokenizer.encode(texts, 64).values)


def test_tokenizer_pickles_as_its_path(tokenizer):
    tokenizer.encode(["x"], 4)
    assert len(pickle.dumps(tokenizer)) < 1000


def test_token_dropout_keeps_the_first_and_the_rate():
    lengths = np.array([1, 500, 499])
    tokens = Ragged(np.arange(1000, dtype=np.int32), lengths)
    kept = token_dropout(tokens, 0.3, np.random.default_rng(0))
    assert kept.lengths.sum() == len(kept.values) and 0.6 < len(kept.values) / 1000 < 0.8
    starts = np.cumsum(kept.lengths) - kept.lengths
    assert kept.values[starts].tolist() == [0, 1, 501]
    assert (np.diff(kept.values) > 0).all()


def test_token_dropout_of_everything_leaves_one_a_row():
    kept = token_dropout(Ragged(np.arange(6), np.array([2, 1, 3])), 1.0, np.random.default_rng(0))
    assert kept.values.tolist() == [0, 2, 3] and kept.lengths.tolist() == [1, 1, 1]
