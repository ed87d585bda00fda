"""Drawings of marked spans: a table by label, and texts with what is marked in them."""

from collections.abc import Sequence

from suite.evaluation.artifacts import MarkedText
from suite.evaluation.span_artifacts import SpanTable
from suite.reporting.blocks import Block, Marked, Table
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import precision_recall_f1

Labelled = tuple[int, int, str]
"""First character, the one behind the last, and a label."""


@draws(SpanTable)
def span_table(exhibit: SpanTable) -> list[Block]:
    """Precision, recall and F1 of each label, the frequent ones first, and of all."""
    order = sorted(range(len(exhibit.names)), key=lambda place: -int(exhibit.counts[place, 2]))
    rows = [_row(exhibit.names[place], *map(int, exhibit.counts[place])) for place in order]
    if len(rows) > 1:
        rows.append(_row("all", *map(int, exhibit.counts.sum(0))))
    about = "An entity is right where both of its ends and its label are."
    return [Table(("label", "actual", "predicted", "right", "precision", "recall", "F1"), tuple(rows), about)]


def _row(name: str, right: int, answered: int, wanted: int) -> tuple[str, ...]:
    return (name, f"{wanted:,}", f"{answered:,}", f"{right:,}", *precision_recall_f1(right, answered, wanted))


def marked(given: MarkedText, most: int = 700) -> Marked:
    """The text in parts, each with what should be marked there and what was; cut behind ``most`` characters."""
    return Marked(parts(given.text, given.wanted, given.answered, most))


def parts(
    text: str, wanted: Sequence[Labelled], answered: Sequence[Labelled], most: int = 700
) -> tuple[tuple[str, str, str], ...]:
    """Stretches of a text between all ends of spans: (text, labels wanted, labels answered)."""
    ends = {0, len(text), *(place for span in (*wanted, *answered) for place in span[:2])}
    cuts = sorted(min(end, most) for end in ends)
    stretches = [(start, end) for start, end in zip(cuts, cuts[1:], strict=False) if start < end]
    pieces = [(text[start:end], _at(wanted, start), _at(answered, start)) for start, end in stretches]
    return (*pieces, ("…", "", "")) if len(text) > most else tuple(pieces)


def _at(spans: Sequence[Labelled], place: int) -> str:
    return ", ".join(label for start, end, label in spans if start <= place < end)
