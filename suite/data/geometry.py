"""Moves of pictures: scaled, shifted and mirrored, with the boxes or masks on them.

A move is float64 (4,): scale across, scale down, shift across, shift down. A place times its scale, and the shift
added, is where it is moved to, in pixels from the left and the top edge; a negative scale mirrors. Dims: b pictures of
h x w pixels, n boxes.
"""

import numpy as np


def identity(count: int) -> np.ndarray:
    """Moves (b, 4) that change nothing."""
    return np.tile([1.0, 1.0, 0.0, 0.0], (count, 1))


def flips(across: np.ndarray, down: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Moves (b, 4) that mirror pictures of a height and width where ``across`` (b,), or ``down`` (b,), is True."""
    moves = identity(len(across))
    moves[across, 0], moves[across, 2] = -1.0, size[1]
    moves[down, 1], moves[down, 3] = -1.0, size[0]
    return moves


def moved_boxes(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Boxes (b, n, 4) of pictures that are moved; they may reach beyond the canvas."""
    corners = boxes.astype(np.float64) * moves[:, None, [0, 1, 0, 1]] + moves[:, None, [2, 3, 2, 3]]
    first, second = corners[..., :2], corners[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1).astype(np.float32)


def moved_images(images: np.ndarray, moves: np.ndarray, fill: int, nearest: bool = False) -> np.ndarray:
    """Pictures uint8 (b, h, w, c), or masks uint8 (b, h, w), that are moved; what moves in is ``fill``.

    Args:
        images: stay as they are.
        moves: (b, 4).
        fill: value of all channels.
        nearest: whether a pixel becomes that of the nearest one, as of masks, whose values cannot be mixed.
    """
    return np.stack([_moved(image, move, fill, nearest) for image, move in zip(images, moves.tolist(), strict=True)])


def _moved(image: np.ndarray, move: list[float], fill: int, nearest: bool) -> np.ndarray:
    """One picture."""
    from PIL import Image

    height, width = image.shape[:2]
    scale_x, scale_y, shift_x, shift_y = move
    if scale_x < 0:
        image, scale_x, shift_x = image[:, ::-1], -scale_x, shift_x + scale_x * width
    if scale_y < 0:
        image, scale_y, shift_y = image[::-1], -scale_y, shift_y + scale_y * height
    if (scale_x, scale_y, shift_x, shift_y) == (1.0, 1.0, 0.0, 0.0):
        return image
    left, right, from_left, from_right = _part(width, scale_x, shift_x)
    top, bottom, from_top, from_bottom = _part(height, scale_y, shift_y)
    canvas = np.full_like(image, fill)
    if left >= right or top >= bottom:
        return canvas
    grey = image.ndim == 2 or image.shape[2] == 1
    pixels = Image.fromarray(np.ascontiguousarray(image.reshape(height, width) if grey else image))
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    part = pixels.resize((right - left, bottom - top), how, box=(from_left, from_top, from_right, from_bottom))
    canvas[top:bottom, left:right] = np.asarray(part).reshape(bottom - top, right - left, *image.shape[2:])
    return canvas


def _part(length: int, scale: float, shift: float) -> tuple[int, int, float, float]:
    """Along one side: pixels of the canvas that the picture covers, from and to, and the stretch of the picture that
    lies there."""
    start, end = round(max(shift, 0.0)), round(min(shift + scale * length, length))
    low, high = (start - shift) / scale, (end - shift) / scale
    return start, end, min(max(low, 0.0), length), min(max(high, 0.0), length)
