"""Pair prediction: a class, a number or labels for two texts, such as entailment or likeness, from both read as one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.text import PairPredictions
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, require, without_empty_pairs
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.evaluation.artifacts import Given
from suite.evaluation.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class PairPrediction(Prediction):
    """A model sees both texts at once, with a separator between them and a type each, as in BERT (`Devlin et al., 2018
    <https://arxiv.org/abs/1810.04805>`_). Vectors of single texts, to be compared in large numbers, are
    `suite.tasks.text.embedding`'s."""

    text: str = "text"
    """Name of the column of first texts."""
    other: str = "other"
    """Name of the column of second texts."""
    tokenizer: Tokenizer = field(default_factory=lambda: SentencePiece(column="both"))
    """Pieces: learnt from both columns of the training split, or those of published weights."""
    max_length: int = 128
    """Tokens of both texts together; the longer one is cut."""
    swaps: float = 0.0
    """Share of the training pairs whose texts change places: 0.5 where their order says nothing, as in likeness."""

    @property
    def both(self) -> tuple[str, str]:
        """Columns of texts: what the tokenizer is learnt from."""
        return self.text, self.other

    @property
    def codec(self) -> PairPredictions:
        return PairPredictions(
            text=self.text, other=self.other, tokenizer=self.tokenizer, max_length=self.max_length, **self.answering
        )

    def source(self, split: str) -> Source:
        data = self.data.with_texts(self.both)
        stated = {"text": self.text, "other": self.other, "target": self.target}
        require(data.open(split), stated, origin(self.data))
        return without_empty_pairs(self.opened(data, split), self.both)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` and ``types`` int32 Ragged, and ``target`` as `Target.encode` says it."""
        asked = columns
        if rng is not None and self.swaps:
            swapped = rng.random(len(columns[self.text])) < self.swaps
            pairs = zip(columns[self.text], columns[self.other], swapped, strict=True)
            turned = [(second, first) if turn else (first, second) for first, second, turn in pairs]
            first, second = zip(*turned, strict=True)
            asked = {**columns, self.text: list(first), self.other: list(second)}
        return {**self.codec.encode(asked), **self.encoded_target(columns, rng)}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(batch["tokens"], batch["tokens_mask"], batch["types"], rngs=rngs)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: {name: str(columns[name][i]) for name in self.both}
