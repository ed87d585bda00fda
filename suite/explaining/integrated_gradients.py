"""Integrated gradients: derivatives summed on the way from a blank to the record.

`Sundararajan, Taly and Yan, 2017, arXiv 1703.01365`: they add up to the difference of the two scores. That is checked
on each stretch of the way, and a stretch on which they do not is halved: near the blank, where normalisation divides by
little, scores may turn within a thousandth of the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suite.codecs.explained import completeness
from suite.contracts.division import summed
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import COMPLETE, Explanation, incomplete
from suite.explaining.programs import nodes

FIRST, HALF = 30, 14
"""Nodes of the Gauss-Legendre quadrature: of the whole way, and of each half of a stretch."""
MOST = 512
"""Nodes after which no stretch is halved any more."""


@dataclass(frozen=True)
class _Stretch:
    """A part of the way, what is summed on it and by how much the sum misses the difference of the scores."""

    start: float
    end: float
    maps: dict[str, np.ndarray]
    missed: float


def integrated_gradients(explainer: Explainer, case: Case) -> Explanation:
    """Attributions of all elements, and their sums over units; where `MOST` nodes do not make them complete, that is
    said."""
    stretches, used = _summed(explainer, case, [(0.0, 1.0)], FIRST), FIRST
    while True:
        maps = {name: np.sum([one.maps[name] for one in stretches], 0) for name in case.labels}
        values = np.sum([summed(maps[name], case.labels[name], case.count) for name in maps], 0)
        missed = completeness(values, case.subject.difference)
        if missed <= COMPLETE or used >= MOST:
            break
        worst = max(stretches, key=lambda one: abs(one.missed))
        stretches.remove(worst)
        middle = (worst.start + worst.end) / 2
        stretches += _summed(explainer, case, [(worst.start, middle), (middle, worst.end)], HALF)
        used += 2 * HALF
    remarks = incomplete(missed, f"with {used} nodes")
    return Explanation("integrated-gradients", case.subject, case.division, values, maps=maps, remarks=remarks)


def _summed(explainer: Explainer, case: Case, parts: Sequence[tuple[float, float]], count: int) -> list[_Stretch]:
    """The stretches between these ends, with so many nodes each, asked together."""
    single, shares = nodes(count)
    places = np.concatenate([[*(start + (end - start) * single), start, end] for start, end in parts])
    slopes, scores = explainer.gradients(case, places)
    stretches = []
    for number, (start, end) in enumerate(parts):
        inside = slice(number * (count + 2), number * (count + 2) + count)
        maps = {name: np.tensordot((end - start) * shares, slope[inside], 1) for name, slope in slopes.items()}
        total = sum(float(one.sum()) for one in maps.values())
        stretches.append(_Stretch(start, end, maps, total - float(scores[inside.stop + 1] - scores[inside.stop])))
    return stretches
