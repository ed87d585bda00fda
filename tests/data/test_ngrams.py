"""N-grams: weights against scikit-learn's, words of all scripts, and what is left out."""

import numpy as np
import pytest

from suite.data.preprocessing.ngrams import NGrams
from suite.data.sources.memory import Memory
from suite.errors import InputError

TEXTS = ["The film isn't bad", "the film, the plot: bad!", "a good film of a good cast", "good cast; bad plot", None]


def fitted(tmp_path, texts=TEXTS, **fields):
    path = tmp_path / "ngrams.json"
    NGrams(**fields).fit(Memory({"text": texts}), "text", path)
    return NGrams(**fields, file=str(path))


def test_weights_are_those_of_tf_idf(tmp_path):
    feature = pytest.importorskip("sklearn.feature_extraction.text")
    texts = [text for text in TEXTS if text]
    tfidf = feature.TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[a-z']+|[^\w\s]", min_df=2, norm="l2"
    )
    expected = tfidf.fit_transform(texts).toarray()
    ids, weights = fitted(tmp_path, texts).encode(texts)
    ours = np.zeros_like(expected)
    ours[np.repeat(np.arange(len(texts)), ids.lengths), ids.values] = weights.values
    assert sorted(map(tuple, ours.T.round(4))) == sorted(map(tuple, expected.T.round(4)))


def test_ngrams_of_characters_are_scaled_apart_from_those_of_words(tmp_path):
    ngrams = fitted(tmp_path, words=1, characters=(2, 3), min_count=1)
    ids, weights = ngrams.encode(["bad bad", "good"])
    squares = np.add.reduceat(weights.values.astype(np.float64) ** 2, [0, ids.lengths[0]])
    np.testing.assert_allclose(squares, 2, atol=1e-6)
    assert ids.lengths.tolist() == [1 + 4 + 3, 1 + 5 + 4]  # " b", "ba", "ad", "d ", ...


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ärger im Café, d'accord?", ["ärger", "im", "café", ",", "d'accord", "?"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"]),
        ("我爱你。テスト", ["我", "爱", "你", "。", "テ", "ス", "ト"]),
        ("한국어 문장", ["한국어", "문장"]),
    ],
)
def test_words_of_all_scripts(tmp_path, text, words):
    ngrams = fitted(tmp_path, [text], words=1, min_count=1)
    assert ngrams.encode([text])[0].lengths.tolist() == [len(words)]
    assert all(ngrams.encode([word])[0].lengths.tolist() == [1] for word in words)


def test_a_text_is_the_same_however_it_is_encoded(tmp_path):
    ngrams = fitted(tmp_path, ["caf\u00e9 noir", "caf\u00e9 noir"])
    composed, decomposed = (ngrams.encode([text])[0].values.tolist() for text in ("Caf\u00e9 noir", "cafe\u0301  NOIR"))
    assert composed == decomposed and len(composed) == 3


def test_texts_without_known_ngrams_are_empty(tmp_path):
    ids, weights = fitted(tmp_path).encode([None, float("nan"), "", "unheard", "good film"])
    assert ids.lengths.tolist() == weights.lengths.tolist() == [0, 0, 0, 0, 2]
    assert (ids.values.dtype, weights.values.dtype) == (np.int32, np.float32)


def test_most_keeps_the_ngrams_of_the_most_texts(tmp_path):
    ngrams = fitted(tmp_path, words=1, most=2)
    assert ngrams.sizes() == {"rows": 64}
    assert ngrams.encode(["film", "bad", "cast"])[0].lengths.tolist() == [1, 1, 0]


def test_nothing_to_learn_from_is_refused(tmp_path):
    with pytest.raises(InputError, match="no n-gram occurs in 2 texts"):
        fitted(tmp_path, ["one", "two"])
    with pytest.raises(InputError, match="no n-gram is to be made"):
        NGrams(words=0)


@pytest.mark.parametrize(
    "field", [{"words": 10**9}, {"characters": (3, 51)}, {"max_words": -5}, {"max_ngrams": 0}, {"min_count": -1}]
)
def test_numbers_that_make_no_n_grams_or_too_many_are_refused(field):
    """A bundle says them as well: its texts would be worked at without end."""
    with pytest.raises(InputError, match=f"field {next(iter(field))} "):
        NGrams(**field)
