"""Changes to training pictures with boxes, which move with the pixels.

A scene is a dict of ``image`` uint8 (b, h, w, c), ``boxes`` float32 (b, m, 4) in its pixels, ``labels`` int32 (b, m),
-1 where a place holds no box, ``crowd`` bool (b, m), True where nothing is to be learnt, and ``content`` float32 (b,
4): left, top, right and bottom of what is picture, not canvas. Dims: b pictures, m places.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.contracts.bounds import check_bounds
from suite.data.geometry import flips, identity, moved_boxes, moved_images
from suite.data.preprocessing.letterbox import GREY

Scene = dict[str, Any]
NO_BOX = -1
"""Label of a place that holds no box."""


class BoxAugmentation(ABC):
    """A random change to a batch of pictures with their boxes."""

    @abstractmethod
    def __call__(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """A scene of the same shapes. The arrays given stay as they are."""


class Move(BoxAugmentation):
    """Pictures are scaled, shifted or mirrored, and their boxes with them."""

    visible: float = 0.0
    """Least share of a box that is seen afterwards; of one that is seen less, what is left is as a crowd: nothing is
    learnt there."""

    @abstractmethod
    def moves(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Moves (b, 4), see `suite.data.geometry`, of ``count`` pictures of a height and width."""

    def __call__(self, scene: Scene, rng: np.random.Generator) -> Scene:
        count, height, width, _ = scene["image"].shape
        moves = self.moves(count, (height, width), rng)
        images = moved_images(scene["image"], moves, GREY)
        boxes = moved_boxes(scene["boxes"], moves)
        limits = np.array([0, 0, width, height], np.float32)
        content = np.clip(moved_boxes(scene["content"][:, None], moves)[:, 0], 0, np.tile(limits[2:], 2))
        seen = cut(boxes, scene["labels"], scene["crowd"], limits, self.visible)
        return {**scene, "image": images, "content": content, **seen}


@dataclass(frozen=True)
class FlipBoxes(Move):
    """Mirrors pictures and boxes."""

    horizontal: float = 0.5
    """Share of pictures that are mirrored left to right."""
    vertical: float = 0.0
    """Share of pictures that are turned upside down."""

    def __post_init__(self) -> None:
        check_bounds(self, {"horizontal": (0.0, 1.0), "vertical": (0.0, 1.0)})

    def moves(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        across, down = rng.random(count) < self.horizontal, rng.random(count) < self.vertical
        return flips(across, down, size)


@dataclass(frozen=True)
class ScaleCrop(Move):
    """Scales pictures by a random factor: of larger ones a random part is seen, smaller ones lie at a random place."""

    smallest: float = 0.7
    """Least factor."""
    largest: float = 1.4
    """Largest factor."""
    visible: float = 0.3
    """Least share of a box that is seen; of one that is seen less, nothing is learnt."""

    def __post_init__(self) -> None:
        check_bounds(self, {"smallest": (0.01, 1e2), "largest": (0.01, 1e2), "visible": (0.0, 1.0)})

    def moves(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        moves = identity(count)
        low, high = sorted((self.smallest, self.largest))
        moves[:, :2] = np.exp(rng.uniform(np.log(low), np.log(high), count))[:, None]
        sides = np.array([size[1], size[0]], np.float64)
        moves[:, 2:] = np.round(rng.random((count, 2)) * (sides - moves[:, :2] * sides))
        return moves


@dataclass(frozen=True)
class Mosaic(BoxAugmentation):
    """Puts four pictures of a batch together, each in a quarter around a random centre (arXiv 2004.10934). A picture
    whose four have more boxes than a row has places stays as it is."""

    share: float = 0.5
    """Share of pictures that become a mosaic."""
    visible: float = 0.3
    """Least share of a box that is seen; of one that is seen less, nothing is learnt."""

    def __post_init__(self) -> None:
        check_bounds(self, {"share": (0.0, 1.0), "visible": (0.0, 1.0)})

    def __call__(self, scene: Scene, rng: np.random.Generator) -> Scene:
        count, height, width, _ = scene["image"].shape
        chosen = rng.random(count) < self.share
        partners = rng.integers(0, count, (count, 4))
        partners[:, 0] = np.arange(count)
        centres = np.round(rng.uniform(0.3, 0.7, (count, 2)) * (width, height)).astype(int)
        shifts = rng.random((count, 4, 2))
        result = {name: np.array(values) for name, values in scene.items()}
        for row in np.flatnonzero(chosen).tolist():
            parts = [self._part(scene, *quarter) for quarter in self._quarters(scene, partners, centres, shifts, row)]
            boxes, labels, crowd = (np.concatenate([part[name] for part in parts]) for name in _NAMES)
            kept = labels != NO_BOX
            if kept.sum() > result["labels"].shape[1]:
                continue
            for (x0, y0, x1, y1), part in ((part["limits"], part) for part in parts):
                result["image"][row, y0:y1, x0:x1] = part["image"]
            result["content"][row] = 0, 0, width, height
            places = slice(0, int(kept.sum()))
            result["labels"][row], result["crowd"][row], result["boxes"][row] = NO_BOX, False, 0
            for name, values in zip(_NAMES, (boxes, labels, crowd), strict=True):
                result[name][row, places] = values[kept]
        return result

    def _quarters(
        self, scene: Scene, partners: np.ndarray, centres: np.ndarray, shifts: np.ndarray, row: int
    ) -> list[tuple[int, tuple[int, int, int, int], np.ndarray]]:
        """Picture, limits on the canvas and shift of the four parts of a mosaic."""
        height, width = scene["image"].shape[1:3]
        across, down = map(int, centres[row])
        limits = [
            (0, 0, across, down),
            (across, 0, width, down),
            (0, down, across, height),
            (across, down, width, height),
        ]
        return [(int(partners[row, place]), limits[place], shifts[row, place]) for place in range(4)]

    def _part(self, scene: Scene, source: int, limits: tuple[int, int, int, int], shift: np.ndarray) -> Scene:
        """The part of a picture that covers a quarter, with its boxes on the canvas."""
        height, width = scene["image"].shape[1:3]
        left, top, right, bottom = limits
        scale = max((right - left) / width, (bottom - top) / height)
        moves = np.array([[scale, scale, 0, 0]])
        moves[0, 2:] = np.array([left, top]) - np.round(
            shift * np.maximum([scale * width - (right - left), scale * height - (bottom - top)], 0)
        )
        image = moved_images(scene["image"][source : source + 1], moves, GREY)[0, top:bottom, left:right]
        boxes = moved_boxes(scene["boxes"][source : source + 1], moves)
        labels, crowd = scene["labels"][source : source + 1], scene["crowd"][source : source + 1]
        seen = cut(boxes, labels, crowd, np.array(limits, np.float32), self.visible)
        return {"image": image, "limits": limits, **{name: values[0] for name, values in seen.items()}}


_NAMES = ("boxes", "labels", "crowd")


def cut(boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray, limits: np.ndarray, visible: float) -> Scene:
    """``boxes``, ``labels`` and ``crowd`` of what is seen within limits.

    Args:
        boxes: (b, m, 4), which may reach beyond.
        labels, crowd: (b, m).
        limits: left, top, right and bottom of what is seen.
        visible: least share of a box that is seen; of one that is seen less, what is left becomes a crowd. One of which
            less than a pixel is left is gone.
    """
    inside = np.clip(boxes, np.tile(limits[:2], 2), np.tile(limits[2:], 2))
    sides = inside[..., 2:] - inside[..., :2]
    seen, whole = sides.prod(-1), (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    gone = (labels == NO_BOX) | (sides.min(-1) < np.minimum(1.0, (boxes[..., 2:] - boxes[..., :2]).min(-1)))
    partly = seen < visible * whole
    return {
        "boxes": np.where(gone[..., None], 0, inside).astype(np.float32),
        "labels": np.where(gone, NO_BOX, labels).astype(np.int32),
        "crowd": (crowd | partly) & ~gone,
    }
