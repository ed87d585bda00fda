"""Codecs of texts: predictions from one or two texts, continuations of one, a text made of a text."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.classes import Classes
from suite.codecs.columns import text_input, texts
from suite.codecs.prediction import Predictions
from suite.codecs.text_units import ngram_divisions, pair_divisions, text_divisions
from suite.contracts.batch import Columns, Ragged
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.division import Division
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.text import SentencePiece, clean
from suite.data.preprocessing.tokenizers import Published, Tokenizer


@dataclass(frozen=True, kw_only=True)
class ReadText(Codec):
    """The asking end of a codec of one text: it is cleaned, and cut into pieces or taken apart into n-grams."""

    example: ClassVar[str] = "It was better than I had expected."
    """A text that can be asked."""
    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}

    text: str
    """Name of the input."""
    tokenizer: Tokenizer | None
    """Pieces, or None."""
    max_length: int
    """Tokens a text is cut at."""
    ngrams: NGrams | None = None
    """N-grams in the place of pieces, or None."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        if not self.ngrams:
            return (text_input(self.text, self.max_length, self.example),)
        words = self.ngrams.max_words
        return (text_input(self.text, words, self.example, f"a text; its first {words} words are read"),)

    @property
    def longest(self) -> int:
        return self.ngrams.longest if self.ngrams else self.max_length

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``tokens`` int32 Ragged; or of n-grams ``ids`` int32 and ``weights`` float32, Ragged."""
        if self.ngrams:
            ids, weights = self.ngrams.encode(texts(columns, self.text))
            return {"ids": ids, "weights": weights}
        return {"tokens": self.tokens(columns)}

    def tokens(self, columns: Columns, sample: np.random.Generator | None = None, alpha: float = 0.1) -> Ragged:
        """Ids of each text; ``sample`` and ``alpha`` as in `Tokenizer.encode`."""
        assert self.tokenizer is not None
        cleaned = [clean(text) for text in texts(columns, self.text)]
        return self.tokenizer.encode(cleaned, self.max_length, sample, alpha)

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        given = texts(columns, self.text)
        if self.ngrams:
            return ngram_divisions(given, self.text, self.ngrams, rows["ids"], "weights")
        assert self.tokenizer is not None
        return text_divisions(given, self.text, self.tokenizer, rows["tokens"], "tokens")


@dataclass(frozen=True, kw_only=True)
class TextClasses(ReadText, Classes):
    """Texts are put into classes."""


@dataclass(frozen=True, kw_only=True)
class TextPredictions(ReadText, Predictions):
    """A number, a class or labels of a text."""


@dataclass(frozen=True, kw_only=True)
class PairPredictions(Predictions):
    """A number, a class or labels of two texts, which are read as one row: the first, a separator, the second."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}

    text: str
    """Name of the input that is the first text."""
    other: str
    """Name of the input that is the second."""
    tokenizer: Tokenizer
    """Pieces; it joins two texts."""
    max_length: int
    """Tokens of both that are read; the longer text is cut."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        examples = {self.text: "A man is playing a guitar.", self.other: "Somebody makes music."}
        about = f"a text; of both together {self.max_length} tokens are read"
        return tuple(text_input(name, self.max_length, example, about) for name, example in examples.items())

    @property
    def longest(self) -> int:
        return self.max_length

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``tokens`` and ``types`` int32 Ragged, types as `Tokenizer.pairs` says them."""
        first, second = ([clean(text) for text in texts(columns, name)] for name in (self.text, self.other))
        tokens, types = self.tokenizer.pairs(first, second, self.max_length)
        return {"tokens": tokens, "types": types}

    def divide(self, columns: Columns, rows: Mapping[str, Any]) -> Sequence[Division]:
        first, second = (texts(columns, name) for name in (self.text, self.other))
        return pair_divisions(first, second, (self.text, self.other), self.tokenizer, rows["tokens"])


@dataclass(frozen=True, kw_only=True)
class Continuations(Codec):
    """A model goes on with a beginning."""

    number_bounds: ClassVar[Bounds] = {"room": LENGTH}

    text: str
    """Name of the input."""
    vocabulary: Characters | SentencePiece
    """Tokens."""
    room: int
    """Tokens of a beginning that are read: its last ones."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        about = f"a beginning; its last {self.room} tokens are read"
        return (text_input(self.text, self.room, "Once upon a time", about),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "what follows the beginning"
        return (Output(name="continuation", kind="text", description=about, after=self.text),)

    @property
    def purpose(self) -> str:
        return "Goes on with a text"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``prompt`` int32 Ragged, of one length for all."""
        beginnings = texts(columns, self.text)
        # No limit: pieces can be more than characters, by those that every row begins with and by normalisation, and
        # what is cut away is the end, from which the model goes on.
        whole = self.vocabulary.encode(beginnings, sys.maxsize)
        rows = [row[-self.room :] for row in np.split(whole.values, np.cumsum(whole.lengths)[:-1])]
        # An empty beginning is one token of no character.
        rows = [row if len(row) else np.ones(1, np.int32) for row in rows]
        lengths = np.array([len(row) for row in rows])
        return {"prompt": Ragged(np.concatenate(rows).astype(np.int32), lengths, to=self.room)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"continuation": text} for text in self.vocabulary.decode(outputs["continuation"])]


@dataclass(frozen=True, kw_only=True)
class Translations(Codec):
    """A text is made of a text."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}

    source_text: str
    """Name of the input."""
    tokenizer: Tokenizer
    """Pieces of what is read, and of what is said unless ``target_tokenizer`` is there."""
    target_tokenizer: Published | None = None
    """Pieces of what is said."""
    max_length: int
    """Tokens a text is cut at."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (text_input(self.source_text, self.max_length, "A man is walking along the street."),)

    @property
    def longest(self) -> int:
        return self.max_length

    @property
    def says(self) -> Tokenizer:
        """The tokenizer of what is said."""
        return self.target_tokenizer or self.tokenizer

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="translation", kind="text", description="the text made of the text"),)

    @property
    def purpose(self) -> str:
        return "Makes a text of a text"

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``source`` int32 Ragged."""
        return {"source": self.tokens(columns)}

    def tokens(self, columns: Columns, sample: np.random.Generator | None = None, alpha: float = 0.1) -> Ragged:
        """Ids of each text; ``sample`` and ``alpha`` as in `Tokenizer.encode`."""
        return self.tokenizer.encode(texts(columns, self.source_text), self.max_length, sample, alpha)

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"translation": text} for text in self.says.decode(np.asarray(outputs["translation"]))]
