"""Decoded images, kept in memory, so that a training split is decoded once and not once an epoch."""

import functools
import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.preprocessing.image import PixelStatistics, decode, decode_batch
from suite.data.reading import changed, file_key

MOST = 512 << 20
"""Bytes of pixels that are kept. Images beyond are decoded whenever they are read."""


class DecodedImages:
    """Decodes images to one size and keeps what it decoded, up to `MOST` bytes.

    Args:
        shape: height, width and channels.
        background, white: see `suite.data.preprocessing.image.decode`.
    """

    def __init__(self, shape: tuple[int, int, int], background: str, white: int = 0):
        self._size, self._how = shape[:2], (shape[2], background, white)
        self._spare = MOST
        self._kept: dict[Hashable, np.ndarray] = {}

    def __call__(self, values: Sequence[Any] | np.ndarray) -> np.ndarray:
        """uint8 (b, h, w, c), as by `suite.data.preprocessing.image.decode_batch`.

        Raises:
            InputError: an image that cannot be decoded.
        """
        if isinstance(values, np.ndarray) or not len(values):
            return decode_batch(values, self._size, *self._how)
        return np.stack([self._decoded(value) for value in values])

    def _decoded(self, value: Any) -> np.ndarray:
        key = content_key(value)
        if key is not None and (kept := self._kept.get(key)) is not None:
            return kept
        pixels = decode(value, self._size, *self._how)
        if key is not None and pixels.nbytes <= self._spare:
            self._spare -= pixels.nbytes
            self._kept[key] = pixels
        return pixels


def content_key(value: Any) -> Hashable | None:
    """What an image is known by: a digest of its content, so that large files are not kept, or its path with the time
    and size of the file; None of an array."""
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).digest()
    return file_key(value) if isinstance(value, str | Path) else None  # of no file: decoding says what is wrong


def decoded_images(statistics: PixelStatistics) -> DecodedImages:
    """The images of the run that these statistics are of; those of the two latest runs are kept."""
    return _of_run(statistics.file, changed(statistics.file), statistics.background, statistics.white)


@functools.lru_cache(maxsize=2)
def _of_run(file: str, written: int, background: str, white: int) -> DecodedImages:
    return DecodedImages(PixelStatistics(file=file).shape, background, white)
