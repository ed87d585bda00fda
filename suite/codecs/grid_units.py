"""Patches of a picture, and stretches of time and frequency of a recording, as units of an explanation."""

from collections.abc import Sequence

import numpy as np

from suite.contracts.division import Division, Unit
from suite.data.recordings import Recordings

SIDE = 7
"""Patches of a picture along each side, of two pixels or more."""
MOMENTS, BANDS = 12, 4
"""Stretches of a recording in time, and in frequency."""


def cuts(size: int, parts: int) -> np.ndarray:
    """Where ``size`` places are cut into equal parts, at most one part a place."""
    return np.linspace(0, size, min(parts, size) + 1).round().astype(int)


def picture_units(column: str, height: int, width: int) -> tuple[list[Unit], np.ndarray]:
    """The patches of a picture, and the patch of each pixel (h, w)."""
    tops, lefts = (cuts(size, min(SIDE, max(size // 2, 1))) for size in (height, width))
    units = [
        Unit(f"rows {top + 1}–{bottom}, columns {left + 1}–{right}", column, (top, left, bottom, right))
        for top, bottom in zip(tops, tops[1:], strict=False)
        for left, right in zip(lefts, lefts[1:], strict=False)
    ]
    down, across = (np.searchsorted(ends, np.arange(ends[-1]), side="right") - 1 for ends in (tops, lefts))
    return units, down[:, None] * (len(lefts) - 1) + across


def picture_divisions(column: str, height: int, width: int, count: int, key: str) -> list[Division]:
    """Of ``count`` pictures, all of one size."""
    units, labels = picture_units(column, height, width)
    about = "an absent pixel has the mean colour of the training pictures"
    one = Division(tuple(units), {key: labels}, {key: None}, about, shapes={column: (height, width)})
    return [one] * count


def sound_units(column: str, seconds: float, bands: int = BANDS) -> tuple[list[Unit], np.ndarray]:
    """Stretches of a recording of so many seconds, and their grid (moments, bands)."""
    edges, shares = np.linspace(0, seconds, MOMENTS + 1), np.linspace(0, 1, bands + 1)
    units = []
    for begin, end in zip(edges, edges[1:], strict=False):
        for low, high in zip(shares, shares[1:], strict=False):
            of = f", bands {low:.0%}–{high:.0%}" if bands > 1 else ""
            place = (float(begin), float(end), float(low), float(high))
            units.append(Unit(f"{begin:.2f}–{end:.2f} s{of}", column, place))
    return units, np.arange(MOMENTS * bands).reshape(MOMENTS, bands)


def sound_divisions(column: str, lengths: Sequence[int], recordings: Recordings, key: str) -> list[Division]:
    """Of recordings of ``lengths`` samples or frames: in time and frequency; in time where models are given samples."""
    about = "an absent stretch has the mean of each band over the training recordings"
    if not recordings.framed:
        about = "an absent stretch is silent"
    divisions = []
    for length in lengths:
        units, grid = sound_units(column, length / recordings.per_second, BANDS if recordings.framed else 1)
        labels = grid if recordings.framed else grid[:, 0]
        divisions.append(Division(tuple(units), {key: labels}, {key: None}, about, scaled=frozenset({key})))
    return divisions
