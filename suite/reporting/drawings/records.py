"""Drawings of what no task owns: spreads of numbers, edits of words, galleries of records."""

from collections.abc import Mapping, Sequence

import numpy as np

from suite.evaluation.alignment import align
from suite.evaluation.artifacts import (
    Edits,
    Example,
    FramedImage,
    Gallery,
    Given,
    Image,
    MarkedText,
    Remade,
    Shares,
    Sound,
    Spread,
)
from suite.reporting import pictures
from suite.reporting.blocks import Block, Card, Cards, Figure, Marked, Plot, Table, Text
from suite.reporting.drawings.boxes import framed
from suite.reporting.drawings.registry import draws
from suite.reporting.drawings.spans import marked
from suite.reporting.glossary import percent
from suite.reporting.svg import TONES, Axis, Series, chart

LONGEST = 700
"""Characters of a text that a card shows."""
BARS = 30


@draws(Spread)
def spread(exhibit: Spread) -> list[Block]:
    """How a number is spread over the records: a histogram, mean and quantiles."""
    kinds = {kind: values[np.isfinite(values)] for kind, values in exhibit.values.items()}
    whole = np.concatenate([*kinds.values()])
    if not len(whole):
        return [Text("There is no record.", "note")]
    middle, reach = whole.min(), max(np.ptp(whole), 1e-9)
    edges = np.linspace(middle, middle + reach, BARS + 1)
    lines = [
        Series(
            kind if len(kinds) > 1 else "",
            edges,
            np.histogram(values, edges)[0] / max(len(values), 1),
            tone,
            kind="steps",
        )
        for (kind, values), tone in zip(kinds.items(), TONES, strict=False)
    ]
    title = f"Share of records over {exhibit.quantity}"
    plot = Plot(title, chart(lines, Axis(exhibit.quantity), Axis(low=0.0), f"{title}: {', '.join(kinds)}"))
    rows = tuple(_quantiles(kind, values) for kind, values in kinds.items())
    return [Figure((plot,), ""), Table(("", "records", "mean", "5 %", "median", "95 %"), rows)]


@draws(Shares)
def shares(exhibit: Shares) -> list[Block]:
    """How often each thing comes about in each group that has records."""
    rows = tuple(
        (group, f"{count:,}", *(percent(number / count) for number in happened))
        for group, count, happened in zip(exhibit.groups, exhibit.counts, exhibit.happened, strict=True)
        if count
    )
    return [Table(("", exhibit.of, *exhibit.events), rows)]


def _quantiles(kind: str, values: np.ndarray) -> tuple[str, ...]:
    if not len(values):
        return (kind, "0", "", "", "", "")
    numbers = (values.mean(), *np.quantile(values, (0.05, 0.5, 0.95)))
    return (kind, f"{len(values):,}", *(f"{number:.4g}" for number in numbers))


@draws(Edits)
def edits(exhibit: Edits) -> list[Block]:
    """How many words are correct, and the most frequent errors."""
    kinds = {"right": 0, "mistaken": 0, "left out": 0, "put in": 0}
    for (wanted, answered), count in exhibit.pairs.items():
        kind = "right" if wanted == answered else "put in" if not wanted else "left out" if not answered else "mistaken"
        kinds[kind] += count
    words, wrong = exhibit.words, exhibit.edits
    says = (
        f"Of {words:,} words {kinds['right']:,} are correct, {kinds['mistaken']:,} substituted and "
        f"{kinds['left out']:,} deleted; {kinds['put in']:,} were inserted. That is a word error rate of "
        f"{percent(wrong, words)}, {wrong:,} edits over {words:,} words."
    )
    mistakes = [(pair, count) for pair, count in exhibit.pairs.most_common() if pair[0] != pair[1]][:15]
    rows = tuple((wanted or "(nothing)", answered or "(nothing)", f"{n:,}") for (wanted, answered), n in mistakes)
    table = Table(("actual", "predicted", "times"), rows, "The most frequent errors.", frozenset({0, 1}))
    return [Text(says), table] if rows else [Text(says)]


@draws(Gallery)
def gallery(exhibit: Gallery) -> list[Block]:
    """Records side by side, or as rows of a table."""
    if not exhibit.examples:
        return [Text("There is none.", "note")]
    among = f" {len(exhibit.examples)} of {exhibit.among:,}." if exhibit.among > len(exhibit.examples) else ""
    given = [example.given for example in exhibit.examples]
    if _show_something(given):
        return [Cards(tuple(map(_record_card, exhibit.examples)), exhibit.about + among)]
    if isinstance(given[0], Mapping):
        return [_records(exhibit.examples), Text(exhibit.about + among, "note")]
    beside = " Above: actual. Below, where it differs: predicted." if exhibit.aligned else ""
    return [
        Cards(tuple(_card(example, exhibit.aligned) for example in exhibit.examples), exhibit.about + among + beside)
    ]


@draws(Remade)
def remade(exhibit: Remade) -> list[Block]:
    """The recordings of a record side by side, each to be seen and heard."""
    if not exhibit.records:
        return [Text("There is none.", "note")]
    among = f" The {len(exhibit.records)} farthest apart of {exhibit.among:,}."
    blocks: list[Block] = [Text(exhibit.about + among, "note")]
    for _, name, sounds in exhibit.records:
        cards = [
            Card(note=what, picture=_pictured(sound, what)[0], sound=pictures.audible(sound)) for what, sound in sounds
        ]
        blocks.append(Cards(tuple(cards), name))
    return blocks


def _show_something(given: Sequence[Given]) -> bool:
    """Whether records have pictures, for which a cell of a table is no place."""
    return any(isinstance(record, Mapping) and any(isinstance(v, Image) for v in record.values()) for record in given)


def _record_card(example: Example) -> Card:
    """A record whose first picture stands above its other columns."""
    assert isinstance(example.given, Mapping)
    shown = [name for name, value in example.given.items() if isinstance(value, Image)]
    first = example.given[shown[0]] if shown else None
    picture = pictures.image(first, f"{shown[0]}: {example.wanted}") if isinstance(first, Image) else None
    fields = tuple(
        (name, pictures.image(value, name) if isinstance(value, Image) else value)
        for name, value in example.given.items()
        if name not in shown[:1]
    )
    return Card(example.wanted, example.answered, example.note, picture=picture, fields=fields)


def _records(examples: Sequence[Example]) -> Table:
    """Records by column, a row each."""
    given = [example.given for example in examples if isinstance(example.given, Mapping)]
    names = list(dict.fromkeys(name for record in given for name in record))
    rows = tuple(
        (example.answered, example.wanted, *(str(record.get(name, "")) for name in names))
        for example, record in zip(examples, given, strict=True)
    )
    words = any(", " in row[0] or not (row[0][:1].isdecimal() or row[0].startswith(("-", "+"))) for row in rows)
    return Table(("predicted", "actual", *names), rows, words=frozenset(range(0 if words else 1, len(names) + 2)))


def _card(example: Example, aligned: bool) -> Card:
    picture, sound = _pictured(example.given, example.wanted)
    if aligned:
        pairs = tuple(align(example.wanted.split(), example.answered.split()))
        return Card(note=example.note, text=_text(example.given), picture=picture, sound=sound, pairs=pairs)
    return Card(example.wanted, example.answered, example.note, _text(example.given), picture, sound)


def _pictured(given: Given, wanted: str) -> tuple[pictures.Picture | None, str]:
    if isinstance(given, Image):
        return pictures.image(given, f"image: {wanted}"), ""
    if isinstance(given, FramedImage):
        return framed(given), ""
    if isinstance(given, Sound):
        lasts = f" of {len(given.values) / given.rate:.1f} s" if given.values.ndim == 1 else ""
        return pictures.spectrogram(given, f"spectrogram{lasts}: {wanted}"), pictures.audible(given)
    return None, ""


def _text(given: Given) -> str | Marked:
    if isinstance(given, MarkedText):
        return marked(given, LONGEST)
    if not isinstance(given, str):
        return ""
    return given if len(given) <= LONGEST else given[: LONGEST - 1] + "…"
