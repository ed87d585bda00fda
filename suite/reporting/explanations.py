"""Explanations on a page: what a model uses on the whole, how far each method holds, and single records."""

from collections.abc import Mapping, Sequence

import numpy as np

from suite.evaluation.bootstrap import Interval
from suite.explaining.checking import Checked, read
from suite.explaining.explanation import Explanation, shown
from suite.reporting.blocks import Block, Card, Cards, Figure, Part, Picture, Plot, Table, Text
from suite.reporting.glossary import capital
from suite.reporting.pictures import uri
from suite.reporting.svg import element
from suite.runs.run import Run

WIDTH, ROW, LETTERS = 360.0, 18.0, 26
"""Sizes of a chart of bars: of all, of a bar's row, and letters of a name."""
BARS = 12


def section(run: Run | None) -> list[Block | Part]:
    """What was found of a run by ``suite explain RUN --split``; nothing where it was not asked."""
    checked = None if run is None else read(run.folder)
    return [] if checked is None else [*overall(checked)]


def overall(checked: Checked) -> list[Block | Part]:
    """Importance, measures and their verdict."""
    found = checked.importance
    plots = [
        Plot(
            f"Mean size of attributions, {found.method}",
            bars({name: one.value for name, one in found.attributed.items()}, found.attributed),
            _numbers(found.attributed),
        )
    ]
    if found.exchanged:
        worse = {name: one.value for name, one in found.exchanged.items()}
        title = f"How much worse {found.metric} is with the values of other records"
        plots.append(Plot(title, bars(worse, found.exchanged), _numbers(found.exchanged)))
    head, *rows = checked.rows
    about = (
        "Deletion: by which share the probability falls faster than in random order; insertion: by which share it "
        "rises faster; absent units are blank, or another record's. Shuffled: rank correlation with the explanation "
        "of shuffled weights, of the head and of all; near 0 the explanation is of the model."
    )
    of = f"Records of {checked.split} (suite explain --split)."
    faults = [Text(f"{capital(line)}.", "warning") for line in checked.faults]
    return [Figure(tuple(plots), of), Part("How far it can be believed", (Table(head, tuple(rows), about), *faults))]


def _numbers(intervals: Mapping[str, Interval]) -> Table:
    rows = tuple((name, shown(one.value), f"{shown(one.low)} to {shown(one.high)}") for name, one in intervals.items())
    return Table(("", "value", "95 % interval"), rows)


def bars(values: Mapping[str, float], spans: Mapping[str, Interval] | None = None) -> str:
    """A bar a name, to the right of a line where it is above 0 and to the left below it, as SVG; ``spans`` are
    intervals around the values."""
    shown = dict(list(values.items())[:BARS])
    ends = [abs(value) for value in shown.values()]
    if spans:
        ends += [abs(end) for name in shown for end in (spans[name].low, spans[name].high)]
    largest = max([end for end in ends if np.isfinite(end)], default=0.0) or 1.0
    negative = min([*shown.values(), *([spans[name].low for name in shown] if spans else [])], default=0.0) < 0
    left = 165.0
    room = WIDTH - left - 10
    zero = left + (room / 2 if negative else 0)
    scale = (room / 2 if negative else room) / largest
    parts = []
    for place, (name, value) in enumerate(shown.items()):
        top = place * ROW + 4
        label = name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
        parts.append(element("text", text=label, x=left - 6, y=top + 11, text_anchor="end", class_="label"))
        start, width = min(zero, zero + value * scale), abs(value * scale)
        tone = "first" if value >= 0 else "second"
        parts.append(element("rect", x=start, y=top + 1, width=max(width, 0.5), height=ROW - 6, class_=f"bars {tone}"))
        if spans and np.isfinite(spans[name].low):
            low, high = zero + spans[name].low * scale, zero + spans[name].high * scale
            middle = top + 1 + (ROW - 6) / 2
            parts.append(element("line", x1=low, y1=middle, x2=high, y2=middle, class_="axis"))
    parts.append(element("line", x1=zero, y1=2.0, x2=zero, y2=len(shown) * ROW + 4, class_="axis"))
    box = f"0 0 {WIDTH:.0f} {len(shown) * ROW + 8:.0f}"
    return element("svg", *parts, viewBox=box, role="img", class_="plot", aria_label="bars")


def records(explanations: Sequence[tuple[str, Explanation, bytes | None]]) -> list[Block | Part]:
    """Single records.

    Args:
        explanations: what each is called, its explanation, and a PNG of its map, if it has one.
    """
    parts: list[Block | Part] = []
    for name, one, drawn in explanations:
        chosen = np.argsort(-np.abs(one.values), kind="stable")[:BARS].tolist()
        names = [one.division.units[place].name for place in chosen]
        values = {
            f"{unit} ({place + 1})" if names.count(unit) > 1 else unit: float(one.values[place])
            for unit, place in zip(names, chosen, strict=True)
        }
        about = one.subject
        said = f"{one.method} of {about.summary}."
        blocks: list[Block] = [Text(said)]
        if drawn is not None:
            card = Card(picture=Picture(uri("image/png", drawn), name), note="")
            blocks.append(Cards((card,), "Red: for it; blue: against it."))
        title = f"What speaks for {about.name}" if about.name else "What it adds"
        blocks.append(Figure((Plot(title, bars(values)),), ""))
        blocks += [Text(f"{capital(line)}.", "note") for line in (one.division.about, *one.remarks)]
        parts.append(Part(name, tuple(blocks)))
    return parts
