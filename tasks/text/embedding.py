"""Text embedding: a vector for each text, near those of the texts that belong to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.vectors import TextVectors
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, without_empty_pairs, without_empty_texts
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.evaluation.artifacts import Given
from suite.evaluation.embedding import Embedding


@dataclass(frozen=True, kw_only=True)
class TextEmbedding(Embedding):
    """The encoder's mean token is the text's vector, as in Sentence-BERT (`Reimers and Gurevych, 2019
    <https://arxiv.org/abs/1908.10084>`_)."""

    text: str = "text"
    """Name of the text column."""
    tokenizer: Tokenizer = field(default_factory=lambda: SentencePiece(column="both"))
    """Pieces: learnt from the training split, or those of published weights."""
    max_length: int = 128
    """Tokens a text is cut at."""
    token_dropout: float = 0.0
    """Share of the tokens of a training text that is left out."""

    @property
    def both(self) -> tuple[str, ...]:
        """Columns of texts: what the tokenizer is learnt from."""
        return (self.text, self.other) if self.other else (self.text,)

    @property
    def content(self) -> str:
        return self.text

    @property
    def codec(self) -> TextVectors:
        return TextVectors(text=self.text, tokenizer=self.tokenizer, max_length=self.max_length)

    def source(self, split: str) -> Source:
        data = self.data.with_texts(self.both)
        opened = (data if self.other else data.with_classes(self.label)).open(split)
        self.check_fields(origin(self.data), opened, "text")
        if self.other:
            return self.paired(without_empty_pairs(opened, (self.text, self.other)))
        return self.paired(without_empty_texts(opened, self.text))

    def rows(self, values: Any, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged."""
        tokens = self.codec.tokens({self.text: values})
        if rng is not None and self.token_dropout:
            tokens = token_dropout(tokens, self.token_dropout, rng, keep_last=self.tokenizer.closes)
        return {"tokens": tokens}

    def hidden(self, model: Any, batch: Batch, side: str, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(batch[f"{side}tokens"], batch[f"{side}tokens_mask"], rngs=rngs)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: str(columns[self.text][i])
