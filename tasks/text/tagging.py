"""Token classification: spans of a text with their labels, such as named entities.

Dims: b texts, t tokens, u units, n tags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.spans import TextSpans, at_units
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import LOOKED_AT, origin, require, unread_columns, without_empty_texts
from suite.data.preprocessing.spans import (
    Span,
    SpanLabels,
    TagSpan,
    label_counts,
    likeliest_tags,
    span_faults,
    spans_of,
    spans_of_tags,
    trimmed,
)
from suite.data.preprocessing.text import SentencePiece
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.sources.memory import cleaned, evenly_spaced
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, MarkedText
from suite.evaluation.losses import distillation_loss
from suite.evaluation.metrics.spans import span_counts, span_scores
from suite.evaluation.span_artifacts import SpanTable
from suite.nn.picking import value_at

_IGNORED, _FIRST = 1, 2
"""What ``tags`` of a batch holds at a unit that nothing is said of, and at one of tag 0; other tokens hold 0."""


@dataclass(frozen=True, kw_only=True)
class TextTagging(Task):
    """Each unit of a text, a word in most languages, gets a tag at its first token; tags make spans.

    Spans are scored as they are answered: whole, by characters. Those that overlap another one, that lie behind the
    last token or that end within a unit cannot be said; they count as missed, and are told of before training.
    """

    data: Data
    """Where the texts come from."""
    text: str = "text"
    """Name of the text column."""
    target: str = "spans"
    """Name of the column of spans: a list a record, of objects with start, end and label, in characters."""
    labels: SpanLabels = field(default_factory=SpanLabels)
    """Labels of spans, learnt from the training split."""
    tokenizer: Tokenizer | None = field(default_factory=lambda: SentencePiece(lowercase=False))
    """Pieces: learnt from the training split, or those of published weights. None: chosen when a run begins."""
    max_length: int = 256
    """Tokens a text is cut at."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all tags."""

    @property
    def codec(self) -> TextSpans:
        if self.tokenizer is None:
            raise InputError("field task.tokenizer", "nothing says how texts are cut.", fix="SentencePiece()")
        return TextSpans(text=self.text, tokenizer=self.tokenizer, labels=self.labels, max_length=self.max_length)

    def source(self, split: str) -> Source:
        opened = self.data.with_texts((self.text,)).with_json((self.target,)).open(split)
        require(opened, {"text": self.text, "target": self.target}, origin(self.data))
        filled = without_empty_texts(opened, self.text)
        columns = filled[np.arange(len(filled))]
        source = cleaned(filled, span_faults(columns[self.text], columns[self.target]))
        if not len(source):
            raise InputError(
                f"column {self.target}",
                "no record states spans of its text.",
                found="; ".join(f"{count:,} with {reason}" for reason, count in source.dropped.items()),
                fix='[{"start": 0, "end": 4, "label": "PER"}], or another column by --task.target',
            )
        return source

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = []
        for split, source in splits.items():
            lines += [f"{split}: {line}" for line in self._unsaid(source)]
            if unseen := label_counts(source, self.target).keys() - set(self.labels.names):
                names = ", ".join(sorted(unseen)[:5])
                lines.append(f"{split}: labels that training does not have, whose spans count as missed: {names}")
        if "train" in splits:
            lines += unread_columns(splits["train"], {self.text, self.target}, self.data)
        return lines

    def _unsaid(self, source: Source) -> list[str]:
        """Lines on the texts that are cut, and on the spans that no tags can say."""
        rows = evenly_spaced(source, LOOKED_AT)
        columns = source[rows]
        units = self.codec.units(columns)
        of = f"of {len(rows):,} texts looked at" if len(rows) < len(source) else f"of {len(rows):,} texts"
        lines = []
        if cut := int((units.unread > 0).sum()):
            lines.append(
                f"{cut:,} {of} have more than {self.max_length} tokens, and are read up to there "
                f"(--task.max_length): {int(units.unread.sum()):,} words are left out"
            )
        _, missed = self._tagged(columns, units.at, units.places, units.tokens)
        if count := int(missed[:, :-1].sum()):
            lines.append(
                f"{count:,} spans {of} cannot be said, and count as missed: they overlap another one, lie behind the "
                "last token, or end within a word"
            )
        return lines

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """``tokens`` int32 Ragged; ``tags`` int32 Ragged: 2 + the tag at the first token of a unit, 1 where nothing is
        said of the unit, 0 at other tokens; ``missed`` int32 (b, labels + 1): spans that no tags can say, by label,
        the last being those of other labels."""
        units = self.codec.units(columns)
        encoded: dict[str, Any] = {"tokens": units.tokens}
        if self.target in columns:
            encoded["tags"], encoded["missed"] = self._tagged(columns, units.at, units.places, units.tokens)
        return encoded

    def _tagged(
        self, columns: Columns, at: Sequence[np.ndarray], places: Sequence[np.ndarray], tokens: Ragged
    ) -> tuple[Ragged, np.ndarray]:
        names = {name: place for place, name in enumerate(self.labels.names)}
        missed = np.zeros((len(at), len(names) + 1), np.int32)
        tags = [np.zeros(length, np.int32) for length in np.asarray(tokens.lengths).tolist()]
        for row, (text, value) in enumerate(zip(columns[self.text], columns[self.target], strict=True)):
            unit_tags, unsaid = _unit_tags(spans_of(value, str(text)), str(text), places[row], names)
            tags[row][at[row]] = unit_tags
            np.add.at(missed[row], unsaid, 1)
        values = np.concatenate(tags) if tags else np.zeros(0, np.int32)
        return Ragged(values, tokens.lengths), missed

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits (b, t, n) of the tags of tokens. Jitted.

        Raises:
            InputError: the model says one thing of the whole text.
        """
        logits: jax.Array = model(batch["tokens"], batch["tokens_mask"], rngs=rngs)
        if logits.ndim != 3:
            raise InputError("field model", "answers once a text, and tags are of tokens.", fix="--model.pooling none")
        return logits

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """The mean over units."""
        logits = self.logits(model, batch, rngs).astype(jnp.float32)
        tags, known = self._wanted(batch)
        log_probs = jax.nn.log_softmax(logits)
        picked = value_at(log_probs, tags)
        smoothing = self.label_smoothing
        nats = -(1 - smoothing) * picked - (smoothing * log_probs.mean(-1) if smoothing else 0)
        count = known.sum().astype(jnp.float32)
        total = jnp.where(known, nats, 0).sum()
        right = ((logits.argmax(-1) == tags) & known).sum().astype(jnp.float32)
        tallies = {"loss": MetricState(total, count), "accuracy": MetricState(right, count)}
        return total / jnp.maximum(count, 1), tallies

    def _wanted(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Tags (b, t), and where they are known."""
        known = (batch["tags"] >= _FIRST) & batch["mask"][:, None]
        return jnp.maximum(batch["tags"] - _FIRST, 0), known

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"logits": self.logits(model, batch)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """Entity F1, precision and recall of the spans that would be answered; accuracy and cross-entropy (nats) of
        the tags of units."""
        mask = np.asarray(batch["mask"])
        found = self._found(np.asarray(outputs["logits"])[mask], np.asarray(batch["tags"])[mask])
        missed = np.asarray(batch["missed"])[mask]
        rows = self._counts(found, missed)
        counts = np.concatenate([*rows, [[0, 0, missed[:, -1].sum()]]])
        known = found.tags >= 0
        picked = np.take_along_axis(found.log_probs, np.maximum(found.tags, 0)[..., None], -1)[..., 0]
        right = (found.log_probs.argmax(-1) == found.tags) & known
        return {
            **span_scores(counts),
            "accuracy": MetricState(float(right.sum()), int(known.sum())),
            "loss": MetricState(float(-picked[known].sum()), int(known.sum())),
        }

    def _found(self, logits: np.ndarray, tags: np.ndarray) -> "_Found":
        at = [np.flatnonzero(row) for row in tags]
        log_probs, mask = at_units(logits, at)
        wanted = np.full(mask.shape, -1, np.int64)
        if mask.any():
            wanted[mask] = np.concatenate([row[places] for row, places in zip(tags, at, strict=True)]) - _FIRST
        answered = spans_of_tags(likeliest_tags(log_probs, mask))
        return _Found(log_probs, wanted, answered, spans_of_tags(wanted))

    def _counts(self, found: "_Found", missed: np.ndarray) -> list[np.ndarray]:
        """Of each row, spans by label as `span_counts` gives them, with those that no tags can say."""
        answered, wanted = (_by_row(spans, len(missed)) for spans in (found.answered, found.wanted))
        rows = [span_counts(*both, len(self.labels.names)) for both in zip(answered, wanted, strict=True)]
        for counts, unsaid in zip(rows, missed, strict=True):
            counts[:, 2] += unsaid[:-1]
        return rows

    def distillation_loss(self, ours: Any, theirs: Any, batch: Batch, temperature: float) -> jax.Array:
        """Sum over a text's units."""
        _, known = self._wanted(batch)
        return jnp.where(known, distillation_loss(ours, theirs, temperature), 0).sum(1)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Precision, recall and F1 of each label, and the texts with most wrong spans, marked."""
        found = self._found(np.asarray(outputs["logits"]), np.asarray(batch["tags"]))
        counts = self._counts(found, np.asarray(batch["missed"]))
        wrong = np.array([float((count[:, 1] + count[:, 2] - 2 * count[:, 0]).sum()) for count in counts])
        answers = self.codec.decode(outputs, columns)

        def show(row: int) -> Example:
            text = str(columns[self.text][row])
            answered = [Span(span["start"], span["end"], span["label"]) for span in answers[row]["spans"]]
            marked = MarkedText(text, tuple(spans_of(columns[self.target][row], text)), tuple(answered))
            return Example(marked, "", "", wrong[row], f"{int(wrong[row])} spans that are missed or wrong")

        about = "Texts with most spans that are missed or wrong."
        return {
            "Entities by label": SpanTable.of(self.labels.names, counts),
            "Texts with most wrong entities": Gallery.worst(about, np.where(wrong > 0, wrong, np.nan), show),
        }


@dataclass(frozen=True)
class _Found:
    """Units of a batch: log probabilities (b, u, n), wanted tags (b, u), below 0 where none is known, and spans."""

    log_probs: np.ndarray
    tags: np.ndarray
    answered: list[TagSpan]
    wanted: list[TagSpan]


def _by_row(spans: Sequence[TagSpan], rows: int) -> list[list[tuple[tuple[int, int], int]]]:
    """Place and label of the spans of each row."""
    found: list[list[tuple[tuple[int, int], int]]] = [[] for _ in range(rows)]
    for row, first, last, label in spans:
        found[row].append(((first, last), label))
    return found


def _unit_tags(
    spans: Sequence[Span], text: str, places: np.ndarray, names: Mapping[str, int]
) -> tuple[np.ndarray, list[int]]:
    """What ``tags`` of a batch holds of each unit at ``places`` (u, 2), and the labels of spans that it cannot say."""
    tags = np.full(len(places), _FIRST, np.int32)
    unsaid: list[int] = []
    free = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        label = names.get(span.label, len(names))
        start, end = trimmed(span, text)
        first = int(np.searchsorted(places[:, 1], start, "right"))
        last = int(np.searchsorted(places[:, 0], end, "left")) - 1
        whole = first <= last and places[first, 0] == start and places[last, 1] == end
        if whole and first >= free and label < len(names):
            tags[first] = _FIRST + 1 + 2 * label
            tags[first + 1 : last + 1] = _FIRST + 2 + 2 * label
            free = last + 1
            continue
        unsaid.append(label)
        outside = slice(max(first, free), last + 1)
        tags[outside] = _IGNORED
        free = max(free, last + 1)
    return tags, unsaid
