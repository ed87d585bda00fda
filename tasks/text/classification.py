"""Text classification: one of several classes for each text."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.text import TextClasses
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.columns import origin, require, without_empty_texts
from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.suggestion import same_records
from suite.errors import InputError
from suite.evaluation.artifacts import Given
from suite.evaluation.classification import Classification
from suite.evaluation.losses import classification_loss


@dataclass(frozen=True, kw_only=True)
class TextClassification(Classification):
    """Texts are cleaned, cut into pieces or taken apart into n-grams, and padded to the length of their bucket."""

    data: Data
    """Where the texts come from."""
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
    sampling: float = 0.0
    """Alpha of subword regularisation (arXiv 1804.10959) in training, 0.1 to 0.5. 0: off."""

    def __post_init__(self):
        if (self.tokenizer is None) == (self.ngrams is None):
            raise InputError(
                "fields task.tokenizer and task.ngrams",
                "one of them reads the texts, and the other is None.",
                found="both" if self.ngrams else "neither",
                fix="text.classify for n-grams, text.encoder for pieces",
            )

    @property
    def codec(self) -> TextClasses:
        return TextClasses(
            text=self.text, tokenizer=self.tokenizer, max_length=self.max_length, ngrams=self.ngrams, **self.answering
        )

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).with_classes(self.label).open(split)
        require(opened, {"text": self.text, "label": self.label}, origin(self.data))
        return without_empty_texts(self.labelled(opened, split), self.text)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged, or ``ids`` int32 and ``weights`` float32 of n-grams; and ``label`` int32 (b,)."""
        encoded: dict[str, Any] = {}
        encoded |= self.codec.encode(columns) if self.ngrams else {"tokens": self._tokens(columns, rng)}
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        return encoded

    def _tokens(self, columns: Columns, rng: np.random.Generator | None) -> Ragged:
        assert self.tokenizer is not None
        tokens = self.codec.tokens(columns, rng if self.sampling else None, self.sampling or 0.1)
        if rng is not None and self.token_dropout:
            tokens = token_dropout(tokens, self.token_dropout, rng, keep_last=self.tokenizer.closes)
        return tokens

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.ngrams:
            return model(batch["ids"], batch["weights"], batch["ids_mask"], rngs=rngs)
        return model(batch["tokens"], batch["tokens_mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        losses = self.cross_entropy(logits, batch["label"])
        return classification_loss(logits, losses, batch)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = super().remarks(splits)
        return [*lines, *self._better()] if self.ngrams and "train" in splits else lines

    def _better(self) -> list[str]:
        """The recipe that starts from published weights, as a command on the same records."""
        words = same_records(self.data, {"text": self.text, "label": self.label})
        command = shlex.join(["suite", "train", "text.finetune", *words])
        return [f"published weights know words that these texts don't show, and mostly answer better: {command}"]

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: str(columns[self.text][i])
