"""Pictures of attributions: a map over the picture or recording that was asked. Dims: h rows, w columns, t frames."""

import io

import numpy as np

FOR, AGAINST = (210, 40, 40), (40, 90, 210)
"""Colours of what speaks for an answer, and against it."""
LEAST = 224
"""Pixels of the shorter side that small pictures are enlarged to."""


def overlay(pixels: np.ndarray, values: np.ndarray) -> bytes:
    """A PNG of a picture in grey, with what speaks for the answer in red and what speaks against it in blue.

    Args:
        pixels: uint8 (h, w, c).
        values: attributions (h, w).
    """
    grey = pixels[..., :3].mean(-1, keepdims=True) if pixels.shape[2] > 2 else pixels[..., :1]
    size = max(LEAST // max(min(values.shape), 1), 1)
    return _png(*(np.repeat(np.repeat(one, size, 0), size, 1) for one in (grey, values)))


def over_time(values: np.ndarray) -> bytes:
    """The same of attributions (t, f) of frames: time to the right, low bands below."""
    turned = values.T[::-1]
    wide, high = max(480 // max(turned.shape[1], 1), 1), max(120 // max(turned.shape[0], 1), 1)
    turned = np.repeat(np.repeat(turned, high, 0), wide, 1)
    return _png(np.full((*turned.shape, 1), 255), turned)


def _png(grey: np.ndarray, values: np.ndarray) -> bytes:
    from PIL import Image

    largest = np.quantile(np.abs(values), 0.99) or np.abs(values).max() or 1.0
    share = np.clip(np.abs(values) / largest, 0, 1)[..., None]
    colour = np.where(values[..., None] > 0, np.array(FOR), np.array(AGAINST))
    light = np.broadcast_to(grey, (*values.shape, 3)) * 0.6 + 255 * 0.4
    file = io.BytesIO()
    Image.fromarray(np.rint(light * (1 - share) + colour * share).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
