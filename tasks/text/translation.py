"""Sequence to sequence: a text made of a text, such as its translation, by an encoder-decoder.

Dims: b rows, m source tokens, t target tokens, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.codecs.text import Translations
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require, unread_columns, without_empty_pairs
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Published, Tokenizer
from suite.decoding.generation import Decoding, generate, prompt, row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Spread
from suite.evaluation.losses import distillation_loss
from suite.evaluation.metrics.translation import sacrebleu_metrics, translation_scores
from suite.nn.picking import value_at

_BYTES = 16
"""Bytes of a reference that are kept for each token of ``max_length``: sentences have about five."""


@dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """The decoder says each target token from the source and the target tokens before it; asked, it goes on alone.

    Every evaluation translates every record as a request would be: BLEU and chrF are those of what is served, and may
    choose the checkpoint (``train.best="bleu"``). Where that takes too long beside training, raise
    ``train.eval_every``, hold out fewer records, or decode with one beam.
    """

    data: Data
    """Where the pairs of texts come from."""
    source_text: str = "source"
    """Name of the column that is read."""
    target_text: str = "target"
    """Name of the column that is to be said."""
    tokenizer: Tokenizer = field(default_factory=SentencePiece)
    """Pieces of both columns: learnt from both in the training split, or those of published weights."""
    target_tokenizer: Published | None = None
    """Pieces of the target, where published weights have one tokenizer a language: Published(side="target")."""
    max_length: int = 128
    """Tokens that a source, and in training a target, is cut at."""
    sampling: float = 0.0
    """Alpha of subword regularisation (arXiv 1804.10959) of both texts in training, 0.1 to 0.5. 0: off."""
    label_smoothing: float = 0.1
    """Share of each target token that is spread over the vocabulary."""
    decoding: Decoding = field(default_factory=lambda: Decoding(tokens=128, beams=4))
    """How translations are sought; its ``end`` and ``pad`` are the tokenizer's."""
    seed: int = 0
    """Draws the tokens, together with the request's own, where decoding has a temperature."""

    def __post_init__(self):
        if self.max_length < 2:
            raise InputError("field task.max_length", "must be at least 2", found=str(self.max_length))
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                "field task.label_smoothing", "must be at least 0 and below 1", found=str(self.label_smoothing)
            )

    @property
    def text(self) -> tuple[str, str]:
        """Both columns: what the tokenizer is learnt from."""
        return self.source_text, self.target_text

    @property
    def codec(self) -> Translations:
        return Translations(
            source_text=self.source_text,
            tokenizer=self.tokenizer,
            target_tokenizer=self.target_tokenizer,
            max_length=self.max_length,
        )

    def source(self, split: str) -> Source:
        sacrebleu_metrics()  # refuses before training what the first evaluation would
        opened = self.data.with_texts(self.text).open(split)
        require(opened, {"source_text": self.source_text, "target_text": self.target_text}, origin(self.data))
        return without_empty_pairs(opened, self.text)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        return unread_columns(splits["train"], self.text, self.data) if "train" in splits else []

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``source`` and ``target`` int32 Ragged, on one scale; of what is not trained on, ``reference``: the target
        as it was written, UTF-8."""
        codec, sample, alpha = self.codec, (rng if self.sampling else None), self.sampling or 0.1
        encoded: dict[str, Any] = {"source": codec.tokens(columns, sample, alpha)}
        wanted = columns.get(self.target_text)
        if wanted is None or any(text is None for text in wanted):
            return encoded
        wanted = [str(text) for text in wanted]
        encoded["target"] = codec.says.targets(wanted, self.max_length, sample, alpha)
        if rng is None:
            encoded["reference"] = _written(wanted, _BYTES * self.max_length)
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        said = self._said(model, batch, rngs, self.label_smoothing)
        total = MetricState(said["nats"].sum(), said["count"].sum())
        tallies = {"loss": total, "accuracy": MetricState(said["right"].sum(), said["count"].sum())}
        return total.total / jnp.maximum(total.count, 1), tallies

    def _said(self, model: Any, batch: Batch, rngs: nnx.Rngs | None, smoothing: float) -> dict[str, jax.Array]:
        """Of each row: nats of its target tokens, how many they are, and how many were the likeliest ones."""
        target = batch["target"]
        real = batch["target_mask"] & batch["mask"][:, None]
        # Padding is at the end, which no token before it sees.
        logits = model(batch["source"], batch["source_mask"], model.shifted(target), rngs=rngs)
        nats = jnp.where(real, _nats(logits, target, smoothing), 0).sum(1)
        count = lambda x: x.sum(1).astype(jnp.float32)
        return {"nats": nats, "count": count(real), "right": count((logits.argmax(-1) == target) & real)}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """What each target token is given, and the translations that ``predict`` would answer with."""
        return {**self._said(model, batch, None, 0.0), **self.predict(model, batch)}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        # Rows that fill up a batch repeat its first one: the search ends when every row has ended.
        row = batch["mask"][:, None]
        source = jnp.where(row, batch["source"], batch["source"][:1])
        mask = jnp.where(row, batch["source_mask"], batch["source_mask"][:1])
        end = self.codec.says.end
        never = {*self.decoding.suppress, model.start} - {end}
        decoding = replace(self.decoding, end=end, pad=end, suppress=tuple(sorted(never)))
        cache = model.cache(source, mask, 1 + decoding.tokens)
        keys = row_keys(batch["seed"], self.seed)
        generated = generate(model, cache, **prompt(source.shape[0], model.start), decoding=decoding, keys=keys)
        return {"translation": generated.tokens}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``bleu`` and ``chrf``, 0..100, of the translations; where the outputs tell, ``loss`` in nats a token and
        ``accuracy``, told the target's tokens so far."""
        mask = np.asarray(batch["mask"])
        written, real = np.asarray(batch["reference"])[mask], np.asarray(batch["reference_mask"])[mask]
        references = [row[there].tobytes().decode(errors="ignore") for row, there in zip(written, real, strict=True)]
        translations = self.codec.says.decode(np.asarray(outputs["translation"])[mask])
        scores = translation_scores(translations, references)
        if "nats" not in outputs:  # of requests
            return scores
        sums = {name: np.asarray(outputs[name], np.float64)[mask].sum() for name in ("nats", "count", "right")}
        tallies = {
            "loss": MetricState(sums["nats"], sums["count"]),
            "accuracy": MetricState(sums["right"], sums["count"]),
        }
        return {**scores, **tallies}

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Sum over a target's tokens."""
        real = batch["target_mask"] & batch["mask"][:, None]
        return jnp.where(real, distillation_loss(ours, theirs, temperature), 0).sum(1)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """chrF of each translation, and the worst by it."""
        given, wanted = ([str(text) for text in columns[name]] for name in self.text)
        translations = [answer["translation"] for answer in self.codec.decode(outputs, columns)]
        pairs = zip(translations, wanted, strict=True)
        chrf = np.array([translation_scores([text], [right])["chrf"].value() for text, right in pairs])
        show = lambda i: Example(given[i], wanted[i], translations[i], -float(chrf[i]), f"chrF {chrf[i]:.1f}")
        worst = Gallery.worst("Translations of the lowest chrF, beside the reference.", -chrf, show, aligned=True)
        return {
            "chrF of single translations": Spread("chrF", {"translations": chrf}),
            "Translations of the lowest chrF": worst,
        }


def _nats(logits: Float[Array, "b t v"], target: Int[Array, "b t"], smoothing: float) -> Float[Array, "b t"]:
    """Cross-entropy of each token, with label smoothing as in `suite.evaluation.losses.cross_entropy`."""
    logits = logits.astype(jnp.float32)
    picked = value_at(logits, target)
    wanted = (1 - smoothing) * picked + smoothing * logits.mean(-1) if smoothing else picked
    return jax.nn.logsumexp(logits, -1) - wanted


def _written(texts: Sequence[str], most: int) -> Ragged:
    """UTF-8 bytes of each text, at most ``most``, on a scale of their own."""
    rows = [np.frombuffer(text.encode("utf-8", "replace"), np.uint8)[:most] for text in texts]
    values = np.concatenate(rows) if rows else np.zeros(0, np.uint8)
    return Ragged(values, np.array([len(row) for row in rows], np.int64), to=most)
