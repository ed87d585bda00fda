"""Spans of texts: as records state them, and as tags of the units of a text, begin-inside-outside (IOB2).

A span is characters from ``start`` to before ``end`` with a label. Tags of c labels (Ramshaw and Marcus, 1995, arXiv
cmp-lg/9505040) are numbers: 0 outside, 1 + 2k the first unit of a span of label k, 2 + 2k its other units. Spans of a
text do not overlap. Dims: b texts, u units, n = 1 + 2c tags.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.class_names import brief
from suite.data.reading import changed
from suite.errors import InputError
from suite.runtime import json_files

CHUNK = 1000
"""Records read at a time."""
SHOWN = 20
"""Labels that a description counts."""


class Span(NamedTuple):
    """Characters of a text with a label."""

    start: int
    end: int
    label: str


class NotSpans(ValueError):
    """A value that states no spans of its text; the message says why."""


def spans_of(value: Any, text: str) -> list[Span]:
    """The spans that a record states, by their place: objects with start, end and label, or lists of these three; as
    JSON or as such.

    Raises:
        NotSpans: it states none, or one that is no part of the text.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise NotSpans("spans that are no JSON") from None
    if not isinstance(value, list | tuple):
        raise NotSpans("spans that are no list")
    return sorted(_span(item, text) for item in value)


def _span(item: Any, text: str) -> Span:
    if isinstance(item, dict):
        item = [item.get(name) for name in Span._fields]
    if not isinstance(item, list | tuple) or len(item) != len(Span._fields):
        raise NotSpans("a span without start, end and label")
    start, end, label = item
    if not all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end)):
        raise NotSpans("a span without start, end and label")
    if not isinstance(label, str) or not label.strip():
        raise NotSpans("a span without start, end and label")
    if not 0 <= start < end <= len(text):
        raise NotSpans("a span outside its text")
    return Span(start, end, label.strip())


def span_faults(texts: Sequence[Any], values: Sequence[Any]) -> dict[str, np.ndarray]:
    """Reason -> (b,) bool, the records whose spans cannot be read; a missing value is no empty list."""
    faults: dict[str, np.ndarray] = {}
    for place, (text, value) in enumerate(zip(texts, values, strict=True)):
        reason = ""
        if value is None or (isinstance(value, str) and not value.strip()):
            reason = "no spans"
        else:
            try:
                spans_of(value, "" if text is None else str(text))
            except NotSpans as error:
                reason = str(error)
        if reason:
            faults.setdefault(reason, np.zeros(len(texts), bool))[place] = True
    return faults


def trimmed(span: Span, text: str) -> tuple[int, int]:
    """First and last place of a span without the white space around it."""
    inner = text[span.start : span.end]
    return span.start + len(inner) - len(inner.lstrip()), span.end - len(inner) + len(inner.rstrip())


@dataclass(frozen=True, kw_only=True)
class SpanLabels(Preprocessor):
    """The labels of spans, sorted, learnt from the training split, and their tags."""

    suffix: ClassVar[str] = ".json"

    column: str = "target"
    """Field of the task that names the column of spans."""

    @property
    def names(self) -> list[str]:
        """The c labels."""
        return _stored(self.file, changed(self.file))

    @property
    def outputs(self) -> list[str]:
        """The n tags."""
        return tag_names(self.names)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the labels to ``path``.

        Raises:
            InputError: no record has a span.
        """
        counts = label_counts(source, column)
        if not counts:
            raise InputError(
                f"column {column}",
                "no training record has a span: there is nothing to learn.",
                found=f"{len(source):,} records",
                fix="name another column by --task.target, or mark spans",
            )
        path.write_text(json.dumps(sorted(counts), ensure_ascii=False, indent=1), encoding="utf-8")

    def describe(self, source: Source, column: str) -> str:
        counts = label_counts(source, column)
        shown = ", ".join(f"{brief(name)} {count:,}" for name, count in counts.most_common(SHOWN))
        more = f", and {len(counts) - SHOWN:,} more labels" if len(counts) > SHOWN else ""
        return f"column {column}: {counts.total():,} spans of {len(counts)} labels: {shown}{more}"

    def sizes(self) -> dict[str, int]:
        """``outputs``: number of tags."""
        return {"outputs": 1 + 2 * len(self.names)}


@functools.lru_cache(maxsize=16)
def _stored(file: str, written: int) -> list[str]:
    return json_files.load(file, json_files.texts)


def tag_names(labels: Sequence[str]) -> list[str]:
    """O, then B- and I- of each label."""
    return ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def label_counts(source: Source, column: str) -> Counter[str]:
    """Label -> spans, of records that are clean."""
    counts: Counter[str] = Counter()
    for start in range(0, len(source), CHUNK):
        for value in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
            for item in json.loads(value) if isinstance(value, str) else value:
                counts[str(item["label"] if isinstance(item, dict) else item[2]).strip()] += 1
    return counts


class TagSpan(NamedTuple):
    """Units ``first`` to ``last`` of a row, of label ``label``."""

    row: int
    first: int
    last: int
    label: int


def spans_of_tags(tags: Iterable[Sequence[int]]) -> list[TagSpan]:
    """The spans of each row of tags; a negative tag is of no known span. A tag that goes on with nothing begins one."""
    found: list[TagSpan] = []
    for row, values in enumerate(tags):
        first, label = -1, -1
        for place, tag in enumerate([*values, 0]):
            inside = tag > 0 and tag % 2 == 0 and (tag - 1) // 2 == label and first >= 0
            if first >= 0 and not inside:
                found.append(TagSpan(row, first, place - 1, label))
                first = -1
            if tag > 0 and not inside:
                first, label = place, (tag - 1) // 2
    return found


def likeliest_tags(log_probs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The likeliest sequence of tags in which a label goes on only where it has begun (Viterbi, 1967, doi
    10.1109/TIT.1967.1054010), units being independent otherwise.

    Args:
        log_probs: (b, u, n) of each tag.
        mask: (b, u) bool, False behind the end of a row.

    Returns:
        (b, u) int64; 0 behind the end.
    """
    rows, units, tags = log_probs.shape
    begins, insides = np.arange(1, tags, 2), np.arange(2, tags, 2)
    score = np.where(np.isin(np.arange(tags), insides), -np.inf, 0.0)[None].repeat(rows, 0)
    back = np.zeros((units, rows, tags), np.int64)
    for unit in range(units):
        best = np.arange(tags)[None].repeat(rows, 0) if unit == 0 else score.argmax(1)[:, None].repeat(tags, 1)
        if unit:
            went_on = score[:, insides] >= score[:, begins]
            best[:, insides] = np.where(went_on, insides, begins)
        reached = np.take_along_axis(score, best, 1) + log_probs[:, unit]
        real = mask[:, unit, None]
        back[unit] = np.where(real, best, np.arange(tags))
        score = np.where(real, reached, score)
    chosen = np.zeros((rows, units), np.int64)
    tag = score.argmax(1) if tags else np.zeros(rows, np.int64)
    for unit in reversed(range(units)):
        chosen[:, unit] = np.where(mask[:, unit], tag, 0)
        tag = back[unit][np.arange(rows), tag]
    return chosen
