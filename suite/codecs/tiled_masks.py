"""Masks of the tiles of a picture as one mask. Dims: t tiles of a picture, canvases of h x w pixels, c classes."""

import numpy as np

from suite.data.preprocessing.letterbox import content, placement

HELD = 1 << 24
"""Logits of a picture that are held at a time, in bands of its rows."""


def blended(logits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mask uint8 of a picture: of each pixel the class of the largest weighted sum of the tiles' logits.

    A tile counts most in its middle and least at its border, where it sees least of what is around, so that masks have
    no seams. Logits are scaled to the pixels of the picture, bilinear.

    Args:
        logits: (t, h, w, c), on the canvases that the tiles were letterboxed to.
        places: (t, 4), see `suite.data.preprocessing.tiles.Tiles.places`; all of one size.
    """
    width, height = places[:, 2:].max(0).tolist()
    wide, high = (places[0, 2:] - places[0, :2]).tolist()
    placed = placement((high, wide), (logits.shape[1], logits.shape[2]))
    left, top, right, bottom = content(placed[None])[0].astype(int).tolist()
    maps = logits[:, top:bottom, left:right]
    across, down = _weights(wide), _weights(high)
    mask = np.empty((height, width), np.uint8)
    rows = max(HELD // (width * maps.shape[-1]), 1)
    for begin in range(0, height, rows):
        end = min(begin + rows, height)
        total = np.zeros((maps.shape[-1], end - begin, width), np.float32)
        for tile, (x, y, x_end, y_end) in zip(maps, places.tolist(), strict=True):
            first, last = max(y, begin), min(y_end, end)
            if first < last:
                seen = first - y, last - y
                weight = down[slice(*seen), None] * across
                part = total[:, first - begin : last - begin, x:x_end]
                for number in range(len(total)):
                    part[number] += weight * _scaled(tile[..., number], wide, high, seen)
        mask[begin:end] = total.argmax(0)
    return mask


def _weights(side: int) -> np.ndarray:
    """Of the pixels along one side, float32 (side,): rising to the middle and falling, nowhere 0."""
    steps = np.arange(side) + 0.5
    return (np.minimum(steps, side - steps) / (side / 2)).astype(np.float32)


def _scaled(values: np.ndarray, wide: int, high: int, rows: tuple[int, int]) -> np.ndarray:
    """Some rows, from the first to before the last, of a map that is scaled to (high, wide); what is not finite is 0,
    or very much."""
    from PIL import Image

    scale = values.shape[0] / high
    box = (0.0, rows[0] * scale, float(values.shape[1]), min(rows[1] * scale, float(values.shape[0])))
    finite = np.nan_to_num(np.ascontiguousarray(values, np.float32))
    return np.asarray(Image.fromarray(finite).resize((wide, rows[1] - rows[0]), Image.Resampling.BILINEAR, box=box))
