"""Plots as inline SVG: sharp at any size, and in the page's own colours, by light and by dark, as its CSS has them.

Nothing here is text of a user that was not escaped: `element` does it. One unit is about a CSS pixel, since plots are
narrow enough for a phone and stand side by side where there is room.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from suite.evaluation.bootstrap import Interval

WIDTH, HEIGHT = 360.0, 230.0
TOP, RIGHT, BOTTOM = 30.0, 14.0, 40.0
LETTER = 6.3
"""Width of a letter of the plots' text, on average."""

Tone = Literal["first", "second", "third", "fourth", "quiet"]
Kind = Literal["line", "dotted line", "dots", "cloud", "steps"]
TONES: tuple[Tone, ...] = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Series:
    """A line over ``x`` (n,), dots, a cloud of many small ones, or steps between n + 1 edges ``x``.

    ``spans`` (n, 2): the ends of an interval around each dot; ``sizes`` (n,): areas of dots, relative to each other.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    tone: Tone = "first"
    kind: Kind = "line"
    spans: np.ndarray | None = None
    sizes: np.ndarray | None = None

    @property
    def dotted(self) -> bool:
        """Whether there is a dot at each point."""
        return self.kind in ("dotted line", "dots")


@dataclass(frozen=True)
class Axis:
    """What is along an axis, and from where to where; None: as the data. ``whole``: marked at whole numbers alone."""

    label: str = ""
    low: float | None = None
    high: float | None = None
    whole: bool = False


def element(name: str, *inside: str, text: str = "", **attributes: object) -> str:
    """A tag around other elements, or around a text. Of attributes ``class_`` is class, and ``_`` a dash."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_short(value))}" for key, value in attributes.items()
    )
    content = "".join(inside) + escape(text)
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within the bounds, evenly spaced."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (factor * size) <= most)
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """The numbers with as many decimals as they need, thousands as k and M."""
    largest = max((abs(value) for value in values), default=0.0)
    scale, unit = next(((s, u) for s, u in ((1e6, "M"), (1e3, "k")) if largest >= 10 * s), (1.0, ""))
    scaled = [value / scale for value in values]
    if largest and largest < 1e-3:
        return [f"{value:.2g}" for value in values]
    places = next((p for p in range(6) if all(abs(v - round(v, p)) < 1e-6 * max(abs(v), 1e-3) for v in scaled)), 6)
    return [f"{value:,.{places}f}{unit if value else ''}" for value in scaled]


@dataclass(frozen=True)
class Frame:
    """Where numbers lie on the plot."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float

    def across(self, value: float) -> float:
        low, high = self.x
        return self.left + (value - low) / (high - low) * (WIDTH - RIGHT - self.left)

    def up(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)


def chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    alt: str,
    *,
    diagonal: bool = False,
    mark: tuple[float, str] | None = None,
) -> str:
    """Lines over one pair of axes.

    Args:
        series: what is drawn, the first on top.
        x, y: the axes.
        alt: what there is to be seen, for those who don't see it.
        diagonal: a line from corner to corner, where both axes are the same.
        mark: a place on the x axis that stands out, and what it is.
    """
    across = _range([values.x for values in series], x, padded=False)
    upward = _range([values.y for values in series], y, padded=True)
    marks = ticks(*upward)
    left = 12 + LETTER * max((len(label) for label in tick_labels(marks)), default=1)
    frame = Frame(across, upward, left)
    parts = [*_grid(frame, marks, x), *_legend(series, left)]
    if diagonal:
        parts.append(_line(frame, (across[0], upward[0]), (across[1], upward[1]), "diagonal"))
    if mark is not None and across[0] <= mark[0] <= across[1]:
        parts += _marked(frame, *mark, series)
    for values in reversed(series):
        drawing = {"steps": _bars, "cloud": _cloud}.get(values.kind, _drawn)
        parts.append(drawing(frame, values))
    return element("svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", class_="plot", role="img", aria_label=alt)


def _range(columns: Sequence[np.ndarray], axis: Axis, padded: bool) -> tuple[float, float]:
    values = np.concatenate([np.asarray(column, np.float64) for column in columns]) if columns else np.zeros(0)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.04 * (high - (low if axis.low is None else axis.low)) if padded else 0.0
    low = low - room if axis.low is None else axis.low
    high = high + room if axis.high is None else axis.high
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2)


def _grid(frame: Frame, marks: Sequence[float], x: Axis) -> list[str]:
    parts = []
    for value, text in zip(marks, tick_labels(marks), strict=True):
        parts.append(_line(frame, (frame.x[0], value), (frame.x[1], value), "grid"))
        parts.append(element("text", text=text, x=frame.left - 6, y=frame.up(value) + 4, text_anchor="end"))
    below = [value for value in ticks(*frame.x) if not x.whole or value == round(value)]
    for value, text in zip(below, tick_labels(below), strict=True):
        parts.append(element("text", text=text, x=frame.across(value), y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
        parts.append(element("path", d=f"M{frame.across(value):.1f} {HEIGHT - BOTTOM:g}v4", class_="axis"))
    parts.append(element("path", d=f"M{frame.left:.1f} {HEIGHT - BOTTOM:g}H{WIDTH - RIGHT:g}", class_="axis"))
    parts.append(
        element(
            "text", text=x.label, x=(frame.left + WIDTH - RIGHT) / 2, y=HEIGHT - 7, text_anchor="middle", class_="label"
        )
    )
    return parts


def _legend(series: Sequence[Series], left: float) -> list[str]:
    """Names of the lines above the plot, each behind a stroke of its colour; a second row where one is full."""
    parts: list[str] = []
    x, y = left, 11.0
    for values in series:
        if not values.name:
            continue
        wide = 22 + LETTER * len(values.name)
        if x > left and x + wide > WIDTH:
            x, y = left, y + 13
        parts.append(element("path", d=f"M{x:.1f} {y - 3.5:.1f}h14", class_=f"line {values.tone}"))
        if values.dotted:
            parts.append(element("circle", cx=x + 7, cy=y - 3.5, r=2.6, class_=f"dot {values.tone}"))
        parts.append(element("text", text=values.name, x=x + 18, y=y))
        x += wide + 8
    return parts


def _marked(frame: Frame, place: float, text: str, series: Sequence[Series]) -> list[str]:
    """A broken line with its name at the end where the lines are not."""
    x = frame.across(place)
    late = x > (frame.left + WIDTH - RIGHT) / 2
    near = [frame.up(float(values.y[np.abs(values.x - place).argmin()])) for values in series if len(values.x)]
    high = any(y < (TOP + HEIGHT - BOTTOM) / 2 for y in near)
    y = HEIGHT - BOTTOM - 7 if high else TOP + 11
    return [
        element("path", d=f"M{x:.1f} {TOP:g}V{HEIGHT - BOTTOM:g}", class_="mark"),
        element(
            "text", text=text, x=x - 5 if late else x + 5, y=y, class_="label", text_anchor="end" if late else "start"
        ),
    ]


def _line(frame: Frame, begin: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    (x0, y0), (x1, y1) = ((frame.across(x), frame.up(y)) for x, y in (begin, end))
    return element("path", d=f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}", class_=kind)


def _drawn(frame: Frame, values: Series) -> str:
    """The line, broken where a value is no number, its dots and their intervals."""
    points = [
        (frame.across(x), frame.up(y)) if math.isfinite(y) else None
        for x, y in zip(values.x.tolist(), values.y.tolist(), strict=True)
    ]
    path, pen = "", "M"
    for point in points:
        path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
        pen = "L" if point else "M"
    parts = [element("path", d=path, class_=f"line {values.tone}")] if path and values.kind != "dots" else []
    if values.spans is not None:
        ends = "".join(
            f"M{frame.across(x):.1f} {frame.up(low):.1f}V{frame.up(high):.1f}"
            for x, (low, high) in zip(values.x.tolist(), values.spans.tolist(), strict=True)
        )
        parts.append(element("path", d=ends, class_=f"span {values.tone}"))
    if values.dotted:
        radii = _radii(values)
        parts += [
            element("circle", cx=point[0], cy=point[1], r=radius, class_=f"dot {values.tone}")
            for point, radius in zip(points, radii, strict=True)
            if point
        ]
    return element("g", *parts)


def _cloud(frame: Frame, values: Series) -> str:
    """Many small dots as one path, which a page carries in a few bytes each."""
    points = zip(values.x.tolist(), values.y.tolist(), strict=True)
    path = "".join(f"M{frame.across(x):.1f} {frame.up(y):.1f}h0" for x, y in points if math.isfinite(y))
    return element("path", d=path, class_=f"cloud {values.tone}")


def _radii(values: Series) -> list[float]:
    if values.sizes is None:
        return [2.6] * len(values.x)
    largest = float(values.sizes.max(initial=1))
    return [2.0 + 5.0 * math.sqrt(size / largest) for size in values.sizes.tolist()]


def _bars(frame: Frame, values: Series) -> str:
    """Steps between the edges, filled down to 0."""
    edges, heights = values.x.tolist(), values.y.tolist()
    ground = frame.up(max(frame.y[0], 0.0))
    path = f"M{frame.across(edges[0]):.1f} {ground:.1f}"
    for i, height in enumerate(heights):
        path += f"V{frame.up(height):.1f}H{frame.across(edges[i + 1]):.1f}"
    return element("path", d=path + f"V{ground:.1f}", class_=f"bars {values.tone}")


def ranges(rows: Sequence[tuple[str, Interval]], label: str, alt: str, zero: bool = False) -> str:
    """Values with their intervals, one below the other.

    Args:
        rows: name, and value with its bounds, of each.
        label: what is along the axis.
        alt: what there is to be seen, for those who don't see it.
        zero: a line at 0, for differences.
    """
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name, _ in rows]
    left = 14 + LETTER * max((len(name) for name in names), default=1)
    height = 30.0 + 24 * len(rows) + 20
    numbers = [np.array([interval.value, interval.low, interval.high]) for _, interval in rows]
    low, high = _range([*numbers, np.zeros(1 if zero else 0)], Axis(), padded=True)
    frame = Frame((low, high), (0, 1), left)
    parts = [element("path", d=f"M{left:.1f} {height - BOTTOM:g}H{WIDTH - RIGHT:g}", class_="axis")]
    below = ticks(low, high, 4)
    for value, text in zip(below, tick_labels(below), strict=True):
        x = frame.across(value)
        parts.append(element("path", d=f"M{x:.1f} 8V{height - BOTTOM:g}", class_="grid"))
        parts.append(element("text", text=text, x=x, y=height - BOTTOM + 16, text_anchor="middle"))
    if zero:
        parts.append(element("path", d=f"M{frame.across(0.0):.1f} 4V{height - BOTTOM:g}", class_="mark"))
    for place, (name, (_, interval)) in enumerate(zip(names, rows, strict=True)):
        y = 20.0 + 24 * place
        parts.append(element("text", text=name, x=left - 8, y=y + 4, text_anchor="end"))
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            parts.append(
                element(
                    "path",
                    d=f"M{frame.across(interval.low):.1f} {y:g}H{frame.across(interval.high):.1f}",
                    class_="line first",
                )
            )
        if math.isfinite(interval.value):
            parts.append(element("circle", cx=frame.across(interval.value), cy=y, r=4.0, class_="dot first"))
    parts.append(
        element("text", text=label, x=(left + WIDTH - RIGHT) / 2, y=height - 7, text_anchor="middle", class_="label")
    )
    return element("svg", *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", class_="plot", role="img", aria_label=alt)
