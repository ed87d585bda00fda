"""Texts as tf-idf of words and characters, alone, beside other columns of a table, and in pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.baselines.features import Feature, Values, column, register_feature, size
from suite.contracts.baseline import Rows
from suite.contracts.batch import Columns

WORD = r"(?u)\w+|[^\w\s]"
"""A word, or a mark: "not good!" is three."""
MOST_NGRAMS = 200_000
"""N-grams of one kind that are kept, the most frequent of training."""
CHARACTERS = 5_000_000
"""Characters of the training texts up to which n-grams of characters are counted too: of more, words suffice, and
those of characters would take minutes."""
TOPICS = 50
"""Numbers that stand for a text beside other columns, by latent semantic analysis."""


class Texts(Feature):
    """N-grams of 1 or 2 words and, of short texts, of 2 to 5 characters; tf-idf with sublinear counts."""

    form = "counts"

    def read(self, columns: Columns, rows: Rows) -> Sequence[str]:
        return ["" if value is None else str(value) for value in column(columns, self.name, size(columns))]

    def fit(self, values: Values) -> str:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        shared: dict[str, Any] = {"sublinear_tf": True, "max_features": MOST_NGRAMS, "dtype": np.float32}
        self._vectorizers = [TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, **shared)]
        if sum(map(len, values)) <= CHARACTERS:
            self._vectorizers.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared))
        known = [*values, "."]  # so that texts without a word leave an n-gram all the same
        counted = hstack([vectorizer.fit_transform(known) for vectorizer in self._vectorizers], format="csr")
        self._known, self._matrix = values, counted[:-1]
        self._topics: Any = None
        words, *characters = (len(vectorizer.vocabulary_) for vectorizer in self._vectorizers)
        told = f"{words:,} n-grams of words"
        return f"{told}, {characters[0]:,} of characters" if characters else told

    def matrix(self, values: Values) -> Any:
        from scipy.sparse import hstack

        if values is self._known:  # those of training are not counted twice
            return self._matrix
        return hstack([vectorizer.transform(values) for vectorizer in self._vectorizers], format="csr")

    def cells(self, values: Values) -> np.ndarray:
        """Topics of the text, and how long it is."""
        from sklearn.decomposition import TruncatedSVD

        if self._topics is None:
            self._topics = TruncatedSVD(max(1, min(TOPICS, *(side - 1 for side in self._matrix.shape))), random_state=0)
            self._topics.fit(self._matrix)
        lengths = np.array([[len(text)] for text in values], np.float64)
        return np.concatenate([self._topics.transform(self.matrix(values)), lengths], 1)


def pair_features(first: Any, second: Any) -> Any:
    """What two texts have together: the n-grams of each, those that only one has, those of both, and how alike they
    are, which a linear model cannot see in the texts one by one.

    Args:
        first, second: tf-idf (b, f) by one vocabulary.
    """
    from scipy.sparse import csr_matrix, hstack

    both = first.multiply(second)
    norms = [np.sqrt(np.asarray(side.multiply(side).sum(1)).ravel()) for side in (first, second)]
    cosine = np.asarray(both.sum(1)).ravel() / np.maximum(norms[0] * norms[1], 1e-9)
    bands = cosine[:, None] >= np.linspace(0.1, 0.9, 9)  # so that it need not act in a straight line
    alike = csr_matrix(np.concatenate([cosine[:, None], bands], 1).astype(np.float32))
    return hstack([first, second, abs(first - second), both, alike], format="csr")


register_feature("text", Texts)
