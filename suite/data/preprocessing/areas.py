"""Areas of a picture as annotations state them: polygons, and lengths of runs, as COCO has both.

Dims: h w height and width.
"""

from typing import Any

import numpy as np

MOST_CORNERS = 1 << 20
"""Corners of a polygon that are read."""
FURTHEST = 1e6
"""Pixels that a corner may lie outside of its picture."""


class NoArea(ValueError):
    """A value that states no area; the message says why."""


def area_of(stated: Any, size: tuple[int, int]) -> np.ndarray:
    """Pixels bool (h, w) of an area: polygons, each a list x, y, x, y, ..., whose union it is, or an object with
    ``counts``, lengths of runs column by column that begin with what is outside, as a list or as COCO writes them.

    Args:
        stated: as annotations have it.
        size: height and width of the picture.

    Raises:
        NoArea: it is neither.
    """
    if isinstance(stated, dict):
        return _runs(stated, size)
    if not isinstance(stated, list) or not stated:
        raise NoArea("no polygon and no runs")
    covered = np.zeros(size, bool)
    for corners in stated:
        if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2 or len(corners) > MOST_CORNERS:
            raise NoArea("a polygon without three corners")
        try:
            places = np.array(corners, np.float64)
        except (TypeError, ValueError):
            raise NoArea("a corner that is no number, or far outside") from None
        if places.ndim != 1 or not (np.abs(places) <= FURTHEST).all():
            raise NoArea("a corner that is no number, or far outside")
        covered |= polygon(places.reshape(-1, 2), size)
    return covered


def polygon(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels bool (h, w) whose middle lies within a polygon, by the even-odd rule.

    Args:
        corners: (n, 2), x from the left edge and y from the upper one.
        size: height and width.
    """
    height, width = size
    following = np.roll(corners, -1, axis=0)
    # An edge crosses the middle of the rows from its upper end, included, to its lower one.
    ends = np.sort(np.stack([corners[:, 1], following[:, 1]]), axis=0) - 0.5
    first, last = (np.clip(np.ceil(end), 0, height).astype(np.int64) for end in ends)
    edge = np.repeat(np.arange(len(corners)), last - first)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[edge]
    start, step = corners[edge], (following - corners)[edge]
    across = start[:, 0] + (rows + 0.5 - start[:, 1]) / step[:, 1] * step[:, 0]
    columns = np.clip(np.ceil(across - 0.5), 0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), np.int64)
    np.add.at(turns, (rows, columns), 1)
    return np.cumsum(turns, axis=1)[:, :width] % 2 == 1


def _runs(stated: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    counts = stated.get("counts")
    if isinstance(counts, str | bytes):
        counts = _unpacked(counts.encode() if isinstance(counts, str) else counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise NoArea("runs without lengths")
    if stated.get("size", list(size)) not in (list(size), size) or sum(counts) != size[0] * size[1]:
        raise NoArea("runs of a picture of another size")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(size[1], size[0]).T


def _unpacked(text: bytes) -> list[int]:
    """Lengths of runs as COCO packs them: groups of five bits, the sixth says that one more follows; from the fourth
    length on, each is less the one two before."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        group = letter - 48
        if not 0 <= group < 64 or shift > 60:
            raise NoArea("runs that are not packed as COCO packs them")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
