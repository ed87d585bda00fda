"""Codec of texts in which spans are marked. Dims: b texts, t tokens, n tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from suite.codecs.columns import text_input, texts
from suite.contracts.batch import Columns
from suite.contracts.bounds import LENGTH, Bounds
from suite.contracts.codec import Codec, Input, Output
from suite.data.preprocessing.spans import SpanLabels, likeliest_tags, spans_of_tags
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.preprocessing.units import Units, units


@dataclass(frozen=True, kw_only=True)
class TextSpans(Codec):
    """A model gives each token logits of its tags; the likeliest valid tags of the words make spans of the text as it
    was given."""

    number_bounds: ClassVar[Bounds] = {"max_length": LENGTH}

    text: str
    """Name of the input."""
    tokenizer: Tokenizer
    """Pieces; it says where they stand."""
    labels: SpanLabels
    """Labels of spans."""
    max_length: int
    """Tokens a text is cut at."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (text_input(self.text, self.max_length, "Ada Lovelace met Charles Babbage in London."),)

    @property
    def longest(self) -> int:
        return self.max_length

    @property
    def outputs(self) -> tuple[Output, ...]:
        about = "parts of the text: characters from start to before end, their label and its probability"
        return (Output(name="spans", kind="spans", description=about, choices=tuple(self.labels.names)),)

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return {"logits": self.labels.outputs}

    def encode(self, columns: Columns) -> dict[str, Any]:
        """``tokens`` int32 Ragged."""
        return {"tokens": self.units(columns).tokens}

    def units(self, columns: Columns) -> Units:
        """The tokens of each text, and where its units are."""
        return units(self.tokenizer, texts(columns, self.text), self.max_length)

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        given, found = texts(columns, self.text), self.units(columns)
        answers: list[list[dict[str, Any]]] = [[] for _ in given]
        log_probs, mask = at_units(np.asarray(outputs["logits"]), found.at)
        tags = likeliest_tags(log_probs, mask)
        likely = np.take_along_axis(log_probs, tags[..., None], -1)[..., 0]
        for row, first, last, label in spans_of_tags(tags):
            start, end = int(found.places[row][first][0]), int(found.places[row][last][1])
            answers[row].append(
                {
                    "start": start,
                    "end": end,
                    "label": self.labels.names[label],
                    "text": given[row][start:end],
                    "probability": round(float(np.exp(likely[row, first : last + 1].sum())), 6),
                }
            )
        return [{"spans": spans} for spans in answers]


def at_units(logits: np.ndarray, at: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of the tags of units.

    Args:
        logits: (b, t, n) of tokens.
        at: b arrays (u,), the token of each unit.

    Returns:
        (b, u, n) float64, u of the row that has most, and (b, u) bool, False behind the end of a row.
    """
    most = max(map(len, at), default=0)
    mask = np.arange(most) < np.array([len(row) for row in at], np.int64)[:, None]
    tokens = np.zeros((len(at), most), np.int64)
    if most:
        tokens[mask] = np.concatenate(list(at))
    picked = np.take_along_axis(logits.astype(np.float64), tokens[..., None], 1)
    shifted = picked - picked.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), mask
