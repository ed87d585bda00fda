"""Text classification: one of several classes for each text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.text import TextClasses
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require, without_empty_texts
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.text import SentencePiece, token_dropout
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.evaluation.artifacts import Artifact, class_artifacts
from suite.evaluation.losses import classification_loss, cross_entropy, distillation_loss
from suite.evaluation.metrics.classification import classification_scores


@dataclass(frozen=True, kw_only=True)
class TextClassification(Task):
    """Texts are cleaned, cut into pieces and padded to the length of their bucket."""

    primary: ClassVar[str] = "text"

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
        opened = self.data.open(split)
        require(opened, {"text": self.text, "label": self.label}, origin(self.data))
        return without_empty_texts(opened, self.text)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged and ``label`` int32 (b,)."""
        tokens = self.codec.tokens(columns, rng if self.sampling else None, self.sampling or 0.1)
        if rng is not None and self.token_dropout:
            tokens = token_dropout(tokens, self.token_dropout, rng, keep_last=self.tokenizer.closes)
        encoded: dict[str, Any] = {"tokens": tokens}
        if self.label in columns:
            encoded["label"] = self.labels.encode(columns[self.label])
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        logits = model(batch["tokens"], batch["tokens_mask"], rngs=rngs)
        losses = cross_entropy(logits, batch["label"], self.label_smoothing)
        return classification_loss(logits, losses, batch)

    def predict(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": model(batch["tokens"], batch["tokens_mask"])}

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, MetricState]:
        return classification_scores(outputs, batch)

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        return jnp.where(batch["mask"], distillation_loss(ours, theirs, temperature), 0)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        texts = columns[self.text]
        return class_artifacts(outputs["logits"], batch["label"], self.labels.names, lambda i: str(texts[i]))
