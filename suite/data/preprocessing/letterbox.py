"""Letterboxing: pictures of any size on a canvas of one size, with their aspect kept, and the way back.

Dims: b pictures of h x w pixels after, n boxes.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from suite.data.preprocessing.decoded_images import MOST, content_key
from suite.data.preprocessing.image import PixelStatistics, decode, dimensions
from suite.data.reading import changed

GREY = 114
"""What surrounds a picture on its canvas."""
PLACED = 6
"""Numbers that say where a picture lies on its canvas: see `placement`."""


def placement(stored: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Where a picture lies on its canvas, float32 (6,): scale across and down, left and top, width and height stored.

    A place of the picture times its scale, and left or top added, is the place on the canvas. The two scales differ by
    no more than rounding the scaled sides to pixels makes of them.

    Args:
        stored: height and width of the picture.
        size: height and width of the canvas.
    """
    height, width = stored
    scale = min(size[0] / height, size[1] / width)
    high, wide = (max(round(side * scale), 1) for side in stored)
    left, top = (size[1] - wide) // 2, (size[0] - high) // 2
    return np.array([wide / width, high / height, left, top, width, height], np.float32)


def content(placed: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of the pictures on their canvases, float32 (b, 4), by `placement` (b, 6)."""
    corner, sides = placed[:, 2:4], placed[:, :2] * placed[:, 4:]
    return np.concatenate([corner, corner + np.round(sides)], 1).astype(np.float32)


def placements(values: Sequence[Any] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """That of pictures, float32 (b, 6), by the heads of their files.

    Raises:
        InputError: a value that is no image.
    """
    rows = [placement(dimensions(value), size) for value in values]
    return np.stack(rows) if rows else np.zeros((0, PLACED), np.float32)


def letterboxed(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture uint8 (any height, any width, c) on a grey canvas (h, w, c)."""
    from PIL import Image

    scale_x, scale_y, left, top, width, height = placement((pixels.shape[0], pixels.shape[1]), size).tolist()
    wide, high, left, top = round(scale_x * width), round(scale_y * height), int(left), int(top)
    canvas = np.full((*size, pixels.shape[2]), GREY, np.uint8)
    if pixels.shape[2] == 4:
        canvas[..., 3] = 255
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if image.size != (wide, high):
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    canvas[top : top + high, left : left + wide] = np.asarray(image).reshape(high, wide, -1)
    return canvas


def onto_canvas(boxes: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) in pixels of the stored picture -> float32 (n, 4) in those of the canvas, by `placement`."""
    scale, offset = placed[[0, 1, 0, 1]].astype(np.float64), placed[[2, 3, 2, 3]].astype(np.float64)
    return (boxes * scale + offset).astype(np.float32)


def onto_pictures(boxes: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Boxes (b, n, 4) in pixels of the canvas -> float64 (b, n, 4) in those of the stored pictures, cut at the border.

    Args:
        boxes: left, top, right, bottom.
        placed: (b, 6), see `placement`.
    """
    rows = placed.astype(np.float64)[:, None]
    stored = (boxes.astype(np.float64) - rows[..., [2, 3, 2, 3]]) / rows[..., [0, 1, 0, 1]]
    return np.clip(stored, 0, rows[..., [4, 5, 4, 5]])


class Letterboxes:
    """Letterboxes pictures and keeps what it decoded, up to `MOST` bytes of pixels.

    Args:
        shape: height, width and channels of the canvas.
        background, white: see `suite.data.preprocessing.image.decode`.
    """

    def __init__(self, shape: tuple[int, int, int], background: str, white: int = 0):
        self._size, self._channels = (shape[0], shape[1]), shape[2]
        self._background, self._white = background, white
        self._spare = MOST
        self._kept: dict[Hashable, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, values: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvases uint8 (b, h, w, c), and where the pictures lie on them, float32 (b, 6).

        Raises:
            InputError: an image that cannot be decoded.
        """
        if not len(values):
            return np.zeros((0, *self._size, self._channels), np.uint8), np.zeros((0, PLACED), np.float32)
        canvases, placed = zip(*map(self._one, values), strict=True)
        return np.stack(canvases), np.stack(placed)

    def _one(self, value: Any) -> tuple[np.ndarray, np.ndarray]:
        key = content_key(value)
        if key is not None and (kept := self._kept.get(key)) is not None:
            return kept
        pixels = decode(value, None, self._channels, self._background, self._white)
        drawn = letterboxed(pixels, self._size), placement((pixels.shape[0], pixels.shape[1]), self._size)
        if key is not None and drawn[0].nbytes <= self._spare:
            self._spare -= drawn[0].nbytes
            self._kept[key] = drawn
        return drawn


def letterboxes(statistics: PixelStatistics) -> Letterboxes:
    """The letterboxed pictures of the run that these statistics are of; those of the two latest runs are kept."""
    return _of_run(statistics.file, changed(statistics.file), statistics.background, statistics.white)


@functools.lru_cache(maxsize=2)
def _of_run(file: str, written: int, background: str, white: int) -> Letterboxes:
    return Letterboxes(PixelStatistics(file=file).shape, background, white)
