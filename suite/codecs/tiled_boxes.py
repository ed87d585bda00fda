"""Boxes that were found in the tiles of a picture, and in the whole of it, as those of one picture.

Dims: t views of a picture, k boxes of a view, n boxes in all.
"""

import numpy as np

from suite.data.preprocessing.tiles import Tiles

SAME = 0.5
"""Share that two boxes of a class have in common above which they are of one thing."""
BORDER = 0.02
"""Share of a tile's side within which a box that ends there is taken as cut."""


def views(tiles: Tiles, height: int, width: int, of: str = "image") -> np.ndarray:
    """Left, top, right and bottom of what a picture is predicted in, int64 (t, 4): the whole of it, and where it takes
    several tiles, those as well. Things that no tile holds are found in the whole.

    Raises:
        InputError: see `Tiles.places`.
    """
    places = tiles.places(height, width, of)
    whole = np.array([[0, 0, width, height]], np.int64)
    return whole if len(places) == 1 else np.concatenate([whole, places])


def joined(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which boxes (n,) bool are answered of a picture that was predicted in several views.

    A thing no larger than the overlap is whole in one tile, so that boxes in the whole picture count from that size on.
    Of boxes of one class and different views that have more than `SAME` in common the surest is kept. Boxes that end at
    a border within the picture come after all others, and fall where most of them is covered: what is seen is a part.

    Args:
        boxes: (t, k, 4), in pixels of the picture.
        scores: (t, k), 0 where there is no box.
        labels: (t, k).
        places: (t, 4), see `views`.
    """
    rows, count = boxes.shape[:2]
    view = np.repeat(np.arange(rows), count)
    flat, flat_scores, flat_labels = boxes.reshape(-1, 4), scores.ravel(), labels.ravel()
    cut = _cut(boxes, places).ravel()
    sides = flat[:, 2:] - flat[:, :2]
    within_a_tile = (sides <= _overlap(places)).all(-1) & (view == 0)
    open_ = (flat_scores > 0) & ~within_a_tile
    order = np.lexsort((-flat_scores, cut))
    areas = sides.prod(-1)
    kept = np.zeros(len(flat), bool)
    for place in order:
        if not open_[place]:
            continue
        kept[place], open_[place] = True, False
        rivals = np.flatnonzero(open_ & (flat_labels == flat_labels[place]) & (view != view[place]))
        low, high = np.maximum(flat[rivals, :2], flat[place, :2]), np.minimum(flat[rivals, 2:], flat[place, 2:])
        common = np.clip(high - low, 0, None).prod(-1)
        smaller = np.minimum(areas[rivals], areas[place])
        of = np.where(cut[rivals], smaller, areas[rivals] + areas[place] - common)
        open_[rivals[common > SAME * of]] = False
    return kept


def _cut(boxes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Whether boxes (t, k) end where their tile does, and the picture doesn't."""
    sides = np.tile(places[:, 2:] - places[:, :2], 2)
    inner = places != places[0]  # the first view is the whole picture
    return (inner[:, None] & (np.abs(boxes - places[:, None]) <= BORDER * sides[:, None])).any(-1)


def _overlap(places: np.ndarray) -> np.ndarray:
    """Pixels (2,) that neighbouring tiles have in common, across and down; all of a side that has one tile."""
    common = []
    for side in (0, 1):
        starts = np.unique(places[1:, side])
        length = places[1, side + 2] - places[1, side]
        common.append(length - np.diff(starts).max(initial=0))
    return np.array(common)
