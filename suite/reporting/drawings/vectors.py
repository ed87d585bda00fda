"""Drawings of embeddings: vectors projected on two axes, and the nearest neighbours of some records."""

from collections import Counter

import numpy as np

from suite.evaluation.artifacts import Given, Image
from suite.evaluation.vector_map import VectorMap
from suite.reporting import pictures
from suite.reporting.blocks import Block, Card, Cards, Figure, Items, Plot, Shown, Text
from suite.reporting.drawings.registry import draws
from suite.reporting.drawings.values import short
from suite.reporting.svg import TONES, Axis, Series, chart

ASKED = 6
"""Records whose neighbours are shown."""
NEIGHBOURS = 4
"""Neighbours of each."""
CHARACTERS = 200
"""Of a text that is shown."""
LEAST = 0.02
"""Share of the records that a class must have to be coloured."""


@draws(VectorMap)
def vector_map(shown: VectorMap) -> list[Block]:
    """A scatter of the records on two principal axes, and the nearest neighbours of some of them."""
    if len(shown.draws) < 2:
        return [Text("There are fewer than two records.", "note")]
    of = "" if shown.among == len(shown.draws) else f", drawn evenly from {shown.among:,}"
    says = (
        f"{len(shown.draws):,} records{of}, by their vectors of {shown.vectors.shape[1]:,} numbers. On the plot, two "
        "axes of all: what is near there may be far apart on the others, so neighbours are by the whole vectors."
    )
    return [Text(says), Figure((_scatter(shown),), ""), Cards(tuple(_neighbours(shown)), _CAPTION)]


_CAPTION = "Some records, each with the other records of the largest cosine among those above."


def _scatter(shown: VectorMap) -> Plot:
    points, shares = shown.projected()
    groups = np.array(shown.groups, object)
    least = max(2, LEAST * len(groups))
    frequent = [name for name, count in Counter(shown.groups).most_common(len(TONES)) if name and count >= least]
    across, upward = points.T
    series = []
    for name, tone in zip(frequent, TONES, strict=False):
        of = groups == name
        series.append(Series(name if len(name) <= 18 else f"{name[:17]}…", across[of], upward[of], tone, "dots"))
    rest = ~np.isin(groups, frequent)
    if rest.any():
        named = ("others", across[rest], upward[rest])
        series.append(Series(*named, "quiet", "dots") if series else Series("", *named[1:], kind="dots"))
    first, second = (f"{100 * share:.0f} %" for share in shares)
    label = f"first axis, {first} of the variance; upwards the second, {second}"
    title = "Vectors on their two principal axes"
    about = f", coloured by {', '.join(frequent)}" if frequent else ""
    edge = 1.04 * float(np.abs(points[:, 0]).max(initial=1e-9))
    return Plot(title, chart(series, Axis(label, -edge, edge), Axis(), f"{title}{about}"))


def _neighbours(shown: VectorMap) -> list[Card]:
    cards = []
    for place in range(min(ASKED, len(shown.draws))):
        others, cosines = shown.nearest(place, NEIGHBOURS)
        group = shown.groups[place]
        asked = shown.given[place]
        picture = pictures.image(asked, f"record {place + 1}") if isinstance(asked, Image) else None
        fields: list[tuple[str, Shown]] = [("class", group)] if group else []
        if picture is None:
            rows = tuple((_worded(shown, i), f"{cosine:.3f}") for i, cosine in zip(others, cosines, strict=True))
            fields.append(("nearest", Items(rows)))
        else:
            for i, cosine in zip(others, cosines, strict=True):
                given = shown.given[i]
                label = f"{cosine:.3f}" + (f" {shown.groups[i]}" if shown.groups[i] else "")
                fields.append((label, pictures.image(given, label) if isinstance(given, Image) else short(given)))
        cards.append(Card(text="" if picture else _text(asked), picture=picture, fields=tuple(fields)))
    return cards


def _worded(shown: VectorMap, place: int) -> str:
    group = shown.groups[place]
    return _text(shown.given[place]) + (f" ({group})" if group else "")


def _text(given: Given) -> str:
    return short(given, CHARACTERS)
