"""Text classification: one of several classes for each text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.text import TextClasses
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.data.preprocessing.columns import origin, require, without_empty_texts
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.evaluation.artifacts import Given
from suite.evaluation.classification import Classification
from suite.evaluation.losses import classification_loss, cross_entropy


@dataclass(frozen=True, kw_only=True)
class TextClassification(Classification):
    """Texts are cleaned, cut into pieces and padded to the length of their bucket."""

    data: Data
    """Where the texts come from."""
    text: str = "text"
    """Name of the text column."""
    label: str = "label"
    """Name of the label column."""
    labels: Labels = field(default_factory=Labels)
    """Class names, learnt from the training split."""
    tokenizer: Tokenizer = field(default_factory=SentencePiece)
    """Pieces: learnt from the training split, or those of published weights."""
    max_length: int = 128
    """Tokens a text is cut at."""
    token_dropout: float = 0.0
    """Share of the tokens of a training text that is left out."""
    sampling: float = 0.0
    """Alpha of subword regularisation (arXiv 1804.10959) in training, 0.1 to 0.5. 0: off."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""

    @property
    def codec(self) -> TextClasses:
        return TextClasses(text=self.text, tokenizer=self.tokenizer, labels=self.labels, max_length=self.max_length)

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).with_classes(self.label).open(split)
        require(opened, {"text": self.text, "label": self.label}, origin(self.data))
        return without_empty_texts(self.labelled(opened, split), self.text)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged and ``label`` int32 (b,)."""
        tokens = self.codec.tokens(columns, rng if self.sampling else None, self.sampling or 0.1)
        if rng is not None and self.token_dropout:
            tokens = token_dropout(tokens, self.token_dropout, rng, keep_last=self.tokenizer.closes)
        encoded: dict[str, Any] = {"tokens": tokens}
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label], held_out=rng is None)
        return encoded

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(batch["tokens"], batch["tokens_mask"], rngs=rngs)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = self.logits(model, batch, rngs)
        losses = cross_entropy(logits, batch["label"], self.label_smoothing)
        return classification_loss(logits, losses, batch)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: str(columns[self.text][i])
