"""Causal language modelling: the next token of running text, and continuations of a beginning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.text import Continuations
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.columns import origin, require, unread_columns
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Lines
from suite.data.sources.running_text import RunningText, Stretches, joined
from suite.decoding.generation import Decoding, generate, row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Spread
from suite.evaluation.losses import distillation_loss
from suite.nn.picking import value_at


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Task):
    """Running text is cut into stretches; of each the model says every token from those before it.

    A table or a folder of texts becomes one running text, a line a record; a plain text file is one already, of which
    the end is test and what lies before it validation. Asked with a beginning, the model continues it.
    """

    data: Data
    """Where the text comes from."""
    text: str = "text"
    """Name of the text column."""
    vocabulary: Characters | SentencePiece = field(default_factory=Characters)
    """Tokens, learnt from the training split."""
    context: int = 256
    """Tokens the model reads at most."""
    stretch: int = 0
    """Characters a stretch is cut from. 0: context + 1, right where tokens are characters; about four times that fills
    the context with pieces."""
    overlap: int = 1
    """Stretches of training begin this many times in the length of one, so that each token has several places."""
    decoding: Decoding = field(default_factory=lambda: Decoding(tokens=64, temperature=0.8, top_k=40))
    """How a beginning is continued."""
    seed: int = 0
    """Draws the tokens of a continuation, together with the request's own."""

    def __post_init__(self):
        for name, least in (("context", 2), ("stretch", 0), ("overlap", 1)):
            if getattr(self, name) < least:
                raise InputError(f"field task.{name}", f"must be at least {least}", found=str(getattr(self, name)))
        if self.decoding.tokens >= self.context:
            raise InputError(
                "field task.decoding.tokens",
                "leaves no room for the beginning",
                found=f"{self.decoding.tokens} of {self.context}",
                fix="fewer, or a longer context",
            )

    @property
    def codec(self) -> Continuations:
        return Continuations(text=self.text, vocabulary=self.vocabulary, room=self.context - self.decoding.tokens)

    def source(self, split: str) -> Source:
        data = self.data
        if isinstance(data, Lines) and Path(data.path).expanduser().is_file():
            data = RunningText(path=data.path, validation=data.validation, test=data.test)
        opened = data.with_texts((self.text,)).open(split)
        require(opened, {"text": self.text}, origin(self.data))
        length = self.stretch or self.context + 1
        step = length - 1  # the last token of one is the first of the next: each is said once
        stride = max(step // self.overlap, 1) if split == "train" else step
        return Stretches(joined(opened, self.text), length, stride, self.text)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        if "train" not in splits or isinstance(self.data, Lines):
            return []
        return unread_columns(self.data.with_texts((self.text,)).open("train"), {self.text}, self.data)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged, at most context + 1, and where the text is held out ``characters`` and ``bytes``
        float32 (b,), of which the tokens but the first are made; of a request ``prompt``, the last tokens that leave
        room."""
        if "stretch" not in columns:
            return self.codec.encode(columns)
        tokens = self.vocabulary.encode(columns[self.text], self.context + 1)
        return {"tokens": tokens, **(self._sizes(columns[self.text], tokens) if rng is None else {})}

    def _sizes(self, texts: Sequence[str], tokens: Ragged) -> dict[str, np.ndarray]:
        """``characters`` and ``bytes`` (b,) of the texts, as far as they are read, without the first token's."""
        rows = np.split(tokens.values, np.cumsum(tokens.lengths)[:-1])
        beginnings = self.vocabulary.decode([row[:1].tolist() for row in rows])
        said = [str(text)[len(first) :] for text, first in zip(texts, beginnings, strict=True)]
        cut = [place for place, row in enumerate(rows) if len(row) > self.context]
        for place, text in zip(cut, self.vocabulary.decode([rows[place][1:].tolist() for place in cut]), strict=True):
            said[place] = text
        return {
            "characters": np.array([len(text) for text in said], np.float32),
            "bytes": np.array([len(text.encode("utf-8", "replace")) for text in said], np.float32),
        }

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        said = _said(model, batch, rngs)
        total = MetricState(said["nats"].sum(), said["count"].sum())
        tallies = {"loss": total, "accuracy": MetricState(said["right"].sum(), said["count"].sum())}
        return total.total / jnp.maximum(total.count, 1), tallies

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return _said(model, batch, None)

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        cache, keys = model.cache(batch["prompt"].shape[0], self.context), row_keys(batch["seed"], self.seed)
        generated = generate(model, cache, batch["prompt"], batch["prompt_mask"], self.decoding, keys)
        return {"continuation": generated.tokens}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss`` in nats a token and ``accuracy``, over all tokens; ``bits_per_character`` and ``bits_per_byte``, by
        which vocabularies compare."""
        sums = {name: np.asarray(outputs[name], np.float64).sum() for name in ("nats", "count", "right")}
        mask, bits = np.asarray(batch["mask"]), sums["nats"] / math.log(2)
        return {
            "loss": MetricState(sums["nats"], sums["count"]),
            "accuracy": MetricState(sums["right"], sums["count"]),
            "bits_per_character": MetricState(bits, float(np.asarray(batch["characters"])[mask].sum())),
            "bits_per_byte": MetricState(bits, float(np.asarray(batch["bytes"])[mask].sum())),
        }

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Sum over a row's tokens but the first."""
        return jnp.where(_counted(batch), distillation_loss(ours, theirs, temperature), 0).sum(1)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """How hard single stretches are, and the hardest."""
        texts = columns[self.text]
        nats = np.asarray(outputs["nats"], np.float64) / np.maximum(outputs["count"], 1)
        show = lambda i: Example(str(texts[i]), "", "", float(nats[i]), f"{nats[i]:.2f} nats a token")
        hardest = Gallery.worst("Stretches of text with the highest loss a token.", nats, show)
        return {
            "Loss of single stretches": Spread("nats a token", {"stretches": nats}),
            "Stretches of the highest loss": hardest,
        }


def _counted(batch: Batch) -> jax.Array:
    """(b, t - 1) which of the tokens but the first are real."""
    return batch["tokens_mask"][:, 1:] & batch["mask"][:, None]


def _said(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
    """Of each row: nats of its tokens but the first, how many they are, and how many were the likeliest ones."""
    given, wanted, real = batch["tokens"][:, :-1], batch["tokens"][:, 1:], _counted(batch)
    # Padding is at the end, which no token before it sees.
    logits = model(given, rngs=rngs)
    nats = jax.nn.logsumexp(logits, -1) - value_at(logits, wanted)
    right = (logits.argmax(-1) == wanted) & real
    count = lambda x: x.sum(1).astype(jnp.float32)
    return {"nats": jnp.where(real, nats, 0).sum(1), "count": count(real), "right": count(right)}


register_metric(
    "bits_per_character",
    "Bits that the model needs for a character of the text: the loss of all its tokens, in bits, over its characters. "
    "0 is best; comparable between vocabularies, which the loss a token is not.",
    "lower",
)
register_metric(
    "bits_per_byte", "The same for a byte of the text in UTF-8: comparable between languages, too.", "lower"
)
