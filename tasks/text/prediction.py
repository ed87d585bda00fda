"""Text prediction: a number, a class, an ordered class or several labels for each text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.text import TextPredictions
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, require, without_empty_texts
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.errors import InputError
from suite.evaluation.artifacts import Given
from suite.evaluation.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class TextPrediction(Prediction):
    """Texts are cleaned, cut into pieces or taken apart into n-grams, and padded to the length of their bucket."""

    text: str = "text"
    """Name of the text column."""
    tokenizer: Tokenizer | None = field(default_factory=SentencePiece)
    """Pieces: learnt from the training split, or those of published weights. None where there are n-grams."""
    ngrams: NGrams | None = None
    """N-grams, learnt from the training split, for a model of n-grams; None: pieces."""
    max_length: int = 128
    """Tokens a text is cut at."""
    token_dropout: float = 0.0
    """Share of the tokens of a training text that is left out."""

    def __post_init__(self):
        if (self.tokenizer is None) == (self.ngrams is None):
            raise InputError(
                "fields task.tokenizer and task.ngrams",
                "one of them reads the texts, and the other is None.",
                found="both" if self.ngrams else "neither",
                fix="ngrams=NGrams(), tokenizer=None",
            )

    @property
    def codec(self) -> TextPredictions:
        return TextPredictions(
            text=self.text, tokenizer=self.tokenizer, max_length=self.max_length, ngrams=self.ngrams, **self.answering
        )

    def source(self, split: str) -> Source:
        data = self.data.with_texts((self.text,))
        require(data.open(split), {"text": self.text, "target": self.target}, origin(self.data))
        return without_empty_texts(self.opened(data, split), self.text)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What the codec says, and ``target`` as `Target.encode` says."""
        encoded = self.codec.encode(columns)
        if rng is not None and self.token_dropout and self.tokenizer is not None:
            keep_last = self.tokenizer.closes
            encoded["tokens"] = token_dropout(encoded["tokens"], self.token_dropout, rng, keep_last=keep_last)
        return {**encoded, **self.encoded_target(columns, rng)}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.ngrams:
            return model(batch["ids"], batch["weights"], batch["ids_mask"], rngs=rngs)
        return model(batch["tokens"], batch["tokens_mask"], rngs=rngs)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: str(columns[self.text][i])
