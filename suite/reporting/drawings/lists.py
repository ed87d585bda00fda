"""How well records are ranked within each owner's list, and the lists that are ranked worst."""

from dataclasses import dataclass

import numpy as np

from suite.evaluation.artifacts import Lists
from suite.evaluation.metrics.ranking import auc
from suite.reporting.blocks import Block, Figure, Plot, Table, Text
from suite.reporting.drawings.registry import draws
from suite.reporting.glossary import percent
from suite.reporting.svg import Axis, Series, chart

SHORTEST = 5
"""Records that a list must have to be called one of the worst: of two, one order in two is wrong."""
SHOWN = 10
"""Lists that are shown."""


@dataclass(frozen=True)
class Ranked:
    """One list. ``area``: the share of its pairs of a wanted and another record that are in the right order."""

    owner: str
    records: int
    wanted: int
    area: float
    top: str


def ranked(lists: Lists) -> list[Ranked]:
    """Lists that hold records of both kinds, in order of owner."""
    owners, places = np.unique(np.array(lists.owners), return_inverse=True)
    order = np.argsort(places, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(places[order])) + 1)
    ranked_lists = []
    for group in groups:
        wanted = lists.wanted[group]
        if 0 < wanted.sum() < len(group):
            first = group[np.argsort(-lists.scores[group], kind="stable")[:3]]
            top = ", ".join(f"{lists.items[i]} {'✓' if lists.wanted[i] else '✗'}".strip() for i in first)
            area = auc(lists.scores[group], wanted)
            ranked_lists.append(Ranked(str(owners[places[group[0]]]), len(group), int(wanted.sum()), area, top))
    return ranked_lists


@draws(Lists)
def worst_lists(lists: Lists) -> list[Block]:
    """How areas are spread over the lists, and the worst of those that are long enough."""
    ranked_lists, owner = ranked(lists), lists.owner
    if not ranked_lists:
        return [Text(f"No {owner} has records of both kinds: there is nothing to rank.", "note")]
    areas = np.array([entry.area for entry in ranked_lists])
    says = (
        f"{len(ranked_lists):,} of {len(set(lists.owners)):,} {owner}s have records of both kinds. Within a list, "
        f"{percent(areas.mean())} of the pairs of a wanted record and another are in the right order, on average; "
        f"50 % is chance. Of pairs across lists more may be, since some {owner}s want more than others. The order "
        f"is worse than chance for {percent((areas < 0.5).mean(), places=0)} of them."
    )
    edges = np.linspace(0, 1, 21)
    bars = Series("", edges, np.histogram(areas, edges)[0] / len(areas), kind="steps")
    title = f"Share of {owner}s over the AUC within their list"
    plot = Plot(title, chart([bars], Axis("AUC within the list", 0.0, 1.0), Axis(low=0.0), title))
    long = [entry for entry in ranked_lists if entry.records >= SHORTEST]
    worst = sorted(long, key=lambda entry: (entry.area, -entry.records))[:SHOWN]
    rows = tuple(
        (entry.owner, f"{entry.records}", f"{entry.wanted}", f"{entry.area:.2f}", entry.top) for entry in worst
    )
    caption = f"The worst of {len(long):,} lists with {SHORTEST} records or more; ✓ was wanted, ✗ was not."
    table = Table((owner, "records", "wanted", "AUC", "ranked first"), rows, caption, frozenset({0, 4}))
    return [Text(says), Figure((plot,), ""), *([table] if rows else [])]
