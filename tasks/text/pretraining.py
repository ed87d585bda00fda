"""Masked language modelling: an encoder learns from texts without labels to say tokens that are hidden from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.text import ReadText
from suite.codecs.vectors import TextVectors
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require, unread_columns, without_empty_texts
from suite.data.preprocessing.text import SentencePiece, clean
from suite.data.preprocessing.tokenizers import Tokenizer, ragged
from suite.data.sources.passages import Passages
from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Spread
from suite.evaluation.contrast import unit
from suite.nn.masking import masked_mean
from suite.nn.picking import value_at
from suite.parallel.layout import for_rows

CHARACTERS = 4
"""Characters of a passage for each token that is read, where the task does not say how long passages are."""


@dataclass(frozen=True)
class Perplexity(MetricState):
    """The exponential of a mean of nats."""

    def __add__(self, other: MetricState) -> "Perplexity":
        return Perplexity(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """e to the mean; nan over nothing, infinite where it is too large for a number."""
        if not self.count:
            return math.nan
        try:
            return math.exp(float(self.total) / float(self.count))
        except OverflowError:
            return math.inf


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling(Task):
    """Some tokens of each passage are hidden, others in each epoch, and said from those that are left (BERT, `Devlin et
    al., 2018 <https://arxiv.org/abs/1810.04805>`_; anew in each epoch as in RoBERTa, `Liu et al., 2019
    <https://arxiv.org/abs/1907.11692>`_).

    The model has the parts ``text``, an encoder that is to carry on elsewhere, and ``predictor``, which is thrown away.
    Only hidden places are predicted. Long texts are cut into passages at white space, so that all of them is read.
    """

    data: Data
    """Where the texts come from."""
    text: str = "text"
    """Name of the text column."""
    tokenizer: Tokenizer = field(default_factory=lambda: SentencePiece(part="text"))
    """Pieces: learnt from the training split, or those of published weights."""
    max_length: int = 128
    """Tokens a passage is cut at."""
    passage: int = 0
    """Characters of a passage at most. 0: four for each token of max_length."""
    hidden_share: float = 0.15
    """Share of the tokens that are predicted."""
    masked: float = 0.8
    """Share of those that the mask takes the place of; of the others half are replaced by any token, and half stay."""
    whole_words: bool = False
    """Hide all tokens of a word or none. Words are what white space parts."""
    seed: int = 0
    """Draws what is hidden of held-out passages, together with the passage's place."""

    def __post_init__(self) -> None:
        for name in ("hidden_share", "masked"):
            share = getattr(self, name)
            if not 0 < share <= 1:
                raise InputError(f"field task.{name}", "must be above 0 and at most 1", found=f"{share:g}")
        for name, least in (("max_length", 4), ("passage", 0)):
            if getattr(self, name) < least:
                raise InputError(f"field task.{name}", f"must be at least {least}", found=str(getattr(self, name)))

    @property
    def codec(self) -> TextVectors:
        return TextVectors(text=self.text, tokenizer=self.tokenizer, max_length=self.max_length)

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).open(split)
        require(opened, {"text": self.text}, origin(self.data))
        texts = without_empty_texts(opened, self.text)
        return Passages(texts, self.text, self.passage or CHARACTERS * self.max_length)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        train = splits.get("train")
        if train is None:
            return []
        assert isinstance(train, Passages)
        sample = train.column(self.text, np.arange(len(train))[:: max(len(train) // 500, 1)])
        lengths = self.tokenizer.encode([clean(text) for text in sample], 1 << 16).lengths
        long = float(np.mean(np.asarray(lengths) > self.max_length))
        lines = [f"train: {train.texts:,} texts in {len(train):,} passages of at most {train.length:,} characters"]
        if long > 0.01:
            fix = f"--task.passage {train.length // 2}"
            lines.append(
                f"{100 * long:.0f} % of the passages have more than {self.max_length} tokens and are cut: {fix}"
            )
        return lines + unread_columns(self.data.with_texts((self.text,)).open("train"), {self.text}, self.data)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged; with whole words ``words`` int32 Ragged, the number of each token's word."""
        if not self.whole_words:
            return ReadText.encode(self.codec, columns)
        texts = [clean(str(text)) for text in columns[self.text]]
        tokens, places = self.tokenizer.located(texts, self.max_length)
        # A word begins where a token does not begin where the one before ends.
        parted = np.concatenate([[True], places[1:, 0] != places[:-1, 1]]) if len(places) else np.zeros(0, bool)
        ends = np.cumsum(tokens.lengths)
        rows = np.split(np.cumsum(parted), ends[:-1])
        words = ragged([(row - row[0]).tolist() if len(row) else [] for row in rows])
        return {"tokens": tokens, "words": words}

    @property
    def _special(self) -> list[int]:
        """Ids that are never hidden: those around each row, and the mask."""
        around = self.tokenizer.encode([""], 16).values.tolist()
        return sorted({*around, self.tokenizer.mask})

    def said(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """Of each row, at the k places that may be hidden: ``places`` (b, k), which of them ``counted`` are, the token
        ``wanted`` there, what stands ``given`` there, the likeliest token ``answered``, and ``nats`` of the wanted one,
        0 where nothing is counted. Jitted."""
        tokens, (rows, length) = batch["tokens"], batch["tokens"].shape
        special = (tokens[..., None] == jnp.asarray(self._special)).any(-1)
        open_ = batch["tokens_mask"] & batch["mask"][:, None] & ~special
        words = batch["words"] if "words" in batch else jnp.broadcast_to(jnp.arange(length), tokens.shape)
        most = min(math.ceil(self.hidden_share * length) + (WORD if "words" in batch else 0), length)
        size = model.text.encoder.tokens.embedding.shape[0]
        first, second = self._draws(batch, rows, length, most, rngs)
        # Tokens of a word share its draw; those of the lowest draws are hidden.
        draws = jnp.where(open_, jnp.take_along_axis(first, jnp.minimum(words, length - 1), 1), 2.0)
        order = jnp.argsort(draws, axis=1, stable=True)[:, :most]
        wish = jnp.maximum(jnp.round(self.hidden_share * open_.sum(1)), 1).astype(jnp.int32)
        at = lambda values: jnp.take_along_axis(values, order, 1)
        counted = _hidden_words(at(words), at(open_), wish)
        wanted, chance, other = at(tokens), second[:, 0], jnp.int32(second[:, 1] * size)
        kept = (1 - self.masked) / 2
        changed = jnp.where(chance < self.masked, self.tokenizer.mask, jnp.where(chance < 1 - kept, other, wanted))
        given = jnp.where(counted, changed, wanted)
        seen = tokens.at[jnp.arange(rows)[:, None], order].set(given)
        vectors = model.text.encoder(seen, batch["tokens_mask"], rngs=rngs)
        picked = jnp.take_along_axis(vectors, order[..., None], 1)
        logits = model.predictor(picked, model.text.encoder.tokens)
        nats = jax.nn.logsumexp(logits, -1) - value_at(logits, wanted)
        return {
            "places": order,
            "counted": counted,
            "wanted": wanted,
            "given": given,
            "answered": logits.argmax(-1).astype(jnp.int32),
            "nats": jnp.where(counted, nats, 0),
        }

    def _draws(
        self, batch: Batch, rows: int, length: int, most: int, rngs: nnx.Rngs | None
    ) -> tuple[jax.Array, jax.Array]:
        """Uniform numbers (b, t), and (b, 2, k)."""
        if rngs is not None:
            keys = jax.random.split(rngs.dropout())
            draw = lambda key, shape: for_rows(lambda whole: jax.random.uniform(key, whole), (rows, *shape))
            return draw(keys[0], (length,)), draw(keys[1], (2, most))
        own = row_keys(batch["seed"], self.seed)
        draw = lambda number, shape: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, number), shape))(
            own
        )
        return draw(0, (length,)), draw(1, (2, most))

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        said = self.said(model, batch, rngs)
        count = said["counted"].sum().astype(jnp.float32)
        total = MetricState(said["nats"].sum(), count)
        right = ((said["answered"] == said["wanted"]) & said["counted"]).sum().astype(jnp.float32)
        return total.total / jnp.maximum(count, 1), {"loss": total, "accuracy": MetricState(right, count)}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        hidden = model.text.encoder(batch["tokens"], batch["tokens_mask"])
        return {"vector": unit(masked_mean(hidden, batch["tokens_mask"]))}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self.said(model, batch, None)

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss`` in nats a hidden token, ``accuracy`` and ``pseudo_perplexity``."""
        mask = np.asarray(batch["mask"])
        counted = np.asarray(outputs["counted"])[mask]
        right = (np.asarray(outputs["answered"]) == np.asarray(outputs["wanted"]))[mask] & counted
        nats, count = float(np.asarray(outputs["nats"], np.float64)[mask].sum()), int(counted.sum())
        return {
            "loss": MetricState(nats, count),
            "accuracy": MetricState(int(right.sum()), count),
            "pseudo_perplexity": Perplexity(nats, count),
        }

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        counted = np.asarray(outputs["counted"])
        count = np.maximum(counted.sum(1), 1)
        nats = np.asarray(outputs["nats"], np.float64).sum(1) / count
        draws = np.asarray(batch["seed"], np.int64) * 2654435761 % 2**32 / 2**32

        def show(i: int) -> Example:
            places = np.asarray(outputs["places"])[i][counted[i]]
            order = np.argsort(places)
            name = lambda key: self._names(np.asarray(outputs[key])[i][counted[i]][order])
            seen = np.array(batch["tokens"][i])[np.asarray(batch["tokens_mask"][i], bool)]
            seen[places] = np.asarray(outputs["given"])[i][counted[i]]
            shown = " ".join(self._names(seen, mask="[…]"))
            return Example(shown, " · ".join(name("wanted")), " · ".join(name("answered")), float(draws[i]))

        about = "Passages drawn evenly from the split, as the encoder saw them, with the hidden tokens in their order."
        return {
            "Loss of single passages": Spread("nats a hidden token", {"passages": nats}),
            "Hidden tokens": Gallery.worst(about, np.where(counted.any(1), draws, np.nan), show),
        }

    def _names(self, ids: np.ndarray, mask: str = "?") -> list[str]:
        """Each id as a text."""
        names = self.tokenizer.decode([[int(i)] for i in ids])
        return [mask if i == self.tokenizer.mask else name for i, name in zip(ids.tolist(), names, strict=True) if name]


WORD = 16
"""Places beyond the stated share that whole words may take."""


def _hidden_words(words: jax.Array, real: jax.Array, wish: jax.Array) -> jax.Array:
    """Which of the k places in the order of their draws are hidden, (b, k) bool: those of the words that begin before
    ``wish`` tokens are hidden, and that do not go on beyond the k places.

    Args:
        words: (b, k) word of each place; those of one stand together.
        real: (b, k) whether it may be hidden.
        wish: (b,) tokens to hide.
    """
    most = words.shape[1]
    place = jnp.arange(most)
    begins = jnp.concatenate([jnp.ones_like(real[:, :1]), words[:, 1:] != words[:, :-1]], 1)
    first = jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    return real & (first < wish[:, None])


register_metric(
    "pseudo_perplexity",
    "The exponential of the mean loss of a hidden token: between how many equally likely tokens the encoder would have "
    "to choose. 1 is best; comparable between runs of one vocabulary and one share of hidden tokens alone.",
    "lower",
)
