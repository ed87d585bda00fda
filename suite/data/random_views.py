"""Random views of images for contrastive pre-training: a part of the image, mirrored, in other colours, blurred.

All of it is linear in the pixels of one image, so a batch is a few products of small matrices: cropping, scaling,
mirroring and blurring are a matrix a side, changes of colour a matrix a pixel. On one core that is some 30,000 views of
32 x 32 pixels a second.

Dims: b images, h height, w width, c channels.
"""

from dataclasses import dataclass

import numpy as np

from suite.data.augment import Augmentation
from suite.errors import InputError

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Share of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

CACHED = 1 << 16
"""Values that are worked on at a time: they and what is computed of them stay in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class RandomView(Augmentation):
    """A random view of each image, as SimCLR draws it (`Chen et al., 2020 <https://arxiv.org/abs/2002.05709>`_).

    Changes of colour follow each other in the order brightness, contrast, saturation, hue; values are cut at black and
    white once, at the end. Hue is turned about the axis of greys. Alpha keeps its values.
    """

    smallest: float = 0.2
    """Least share of the area that a view shows."""
    widest: float = 4 / 3
    """Most that width to height of the part exceeds that of the image, or falls short of it."""
    flip: bool = True
    """Mirror half of the views, left to right."""
    jitter: float = 0.5
    """Strength of the changes of colour: brightness, contrast and saturation by up to 0.8 of it, hue by up to 0.2 of it
    of a turn. 0: off."""
    jittered: float = 0.8
    """Share of the views whose colours are changed."""
    grey: float = 0.2
    """Share of the views that lose their colours."""
    blur: float = 0.0
    """Share of the views that are blurred, by a Gaussian of 0.1 to 2 pixels for each 224 pixels of the longer side.
    Photos: 0.5."""

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("jittered", "grey", "blur")}
        for name, value in {**shares, "smallest": self.smallest}.items():
            if not 0 <= value <= 1 or (name == "smallest" and not value):
                raise InputError(f"field task.view.{name}", "must be a share, from 0 to 1", found=f"{value:g}")
        if self.widest < 1 or not 0 <= self.jitter <= 1:
            found = f"widest {self.widest:g}, jitter {self.jitter:g}"
            raise InputError(
                "field task.view",
                "needs widest of at least 1 and jitter from 0 to 1",
                found=found,
                fix="leave them out",
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> uint8 (b, h, w, c)."""
        views = np.empty_like(images)
        rows = max(CACHED // max(images[:1].size, 1), 1)
        for start in range(0, len(images), rows):
            part = slice(start, start + rows)
            views[part] = self._seen(images[part], rng)
        return views

    def _seen(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count, height, width, channels = images.shape
        upright, across = self._sides(count, height, width, rng)
        x: np.ndarray = images.astype(np.float32).reshape(count, height, width * channels)
        x = np.matmul(upright, x).reshape(count, height, width, channels)
        x = x.transpose(0, 2, 1, 3).reshape(count, width, height * channels)
        x = np.matmul(across, x).reshape(count, width, height, channels)
        x = self._coloured(x, rng).reshape(count, width, height, channels)
        np.clip(np.rint(x, out=x), 0, 255, out=x)
        return x.astype(np.uint8).transpose(0, 2, 1, 3)

    def _sides(self, count: int, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (b, h, h) and (b, w, w) that make rows of the view of rows of the image, and columns of columns."""
        area = rng.uniform(self.smallest, 1.0, count)
        shape = np.exp(rng.uniform(-np.log(self.widest), np.log(self.widest), count))
        # Shares of the sides; a part that would stick out is cut.
        high, wide = np.minimum(np.sqrt(area / shape), 1.0), np.minimum(np.sqrt(area * shape), 1.0)
        top, left = rng.random(count) * (1 - high) * height, rng.random(count) * (1 - wide) * width
        upright, across = _scaling(top, high * height, height), _scaling(left, wide * width, width)
        mirrored = rng.random(count) < 0.5 * self.flip
        across[mirrored] = across[mirrored, ::-1]
        blurred = np.flatnonzero(rng.random(count) < self.blur)
        if len(blurred):
            width_of = rng.uniform(0.1, 2.0, len(blurred)) * max(height, width) / 224
            upright[blurred] = _gaussian(width_of, height) @ upright[blurred]
            across[blurred] = _gaussian(width_of, width) @ across[blurred]
        return upright, across

    def _coloured(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pixels (b, w, h, c) in other colours."""
        count, channels = len(x), x.shape[3]
        colours = 1 if channels == 1 else 3
        grey = np.ones(1, np.float32) if colours == 1 else GREY
        jittered, greyed = rng.random(count) < self.jittered, rng.random(count) < self.grey
        strengths = (rng.uniform(-1, 1, (4, count)) * (self.jitter * jittered)).astype(np.float32)
        brightness, contrast, saturation = 1 + 0.8 * strengths[:3]
        eye = np.eye(colours, dtype=np.float32)
        # Rows: a colour of the pixel; columns: a colour of the view.
        towards = np.outer(grey, np.ones(colours, np.float32))
        matrix = saturation[:, None, None] * eye + (1 - saturation)[:, None, None] * towards
        if colours == 3:
            matrix = matrix @ _turned(np.float32(0.4 * np.pi) * strengths[3])
        matrix[greyed] = matrix[greyed] @ towards
        pixels = x.reshape(count, -1, channels)
        means = np.matmul(np.full(pixels.shape[1], 1 / pixels.shape[1], np.float32), pixels)[:, :colours]
        offset = (brightness * (1 - contrast) * (means @ grey))[:, None]  # by the brightness of what the view shows
        matrix *= (brightness * contrast)[:, None, None]
        # Grey goes to grey in the matrix, so what is added before it can be added behind it.
        changed = np.matmul(pixels[..., :colours], matrix) + offset[:, None]
        return changed if channels == colours else np.concatenate([changed, pixels[..., colours:]], 2)


def _scaling(start: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
    """Matrices (b, size, size) that scale a part to the whole side: each row the weights of a triangle about the place
    that the pixel comes from, as wide as the part is shortened and one pixel at least; they sum to 1."""
    scale = (length / size).astype(np.float32)[:, None, None]
    centres = start.astype(np.float32)[:, None, None] + scale * (np.arange(size, dtype=np.float32)[:, None] + 0.5)
    apart = np.abs(np.arange(size, dtype=np.float32) + 0.5 - centres)
    weights = np.maximum(0, 1 - apart / np.maximum(scale, 1))
    return weights / weights.sum(-1, keepdims=True)


def _gaussian(deviations: np.ndarray, size: int) -> np.ndarray:
    """Matrices (b, size, size) that blur a side by Gaussians; they sum to 1."""
    apart = np.arange(size, dtype=np.float32)[:, None] - np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * (apart / deviations.astype(np.float32)[:, None, None]) ** 2)
    return weights / weights.sum(-1, keepdims=True)


def _turned(angles: np.ndarray) -> np.ndarray:
    """Matrices (b, 3, 3) that turn red, green and blue about the axis of greys (Rodrigues)."""
    axis = np.full(3, 3**-0.5, np.float32)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], np.float32)
    cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return cosine * np.eye(3, dtype=np.float32) + sine * cross + (1 - cosine) * np.outer(axis, axis)
