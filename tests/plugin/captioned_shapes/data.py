"""Pictures of twelve coloured shapes, drawn by a seed, with captions of which half are wrong."""

from dataclasses import dataclass

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.sources.memory import Memory

SIDE = 12
"""Height and width of a picture in pixels."""
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}
SHAPES = ("square", "cross", "bar", "frame")
CAPTIONS = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)


def drawn(caption: str, top: int = 3, left: int = 3) -> np.ndarray:
    """The picture (h, w, 3) uint8 that a caption describes, its shape of 6 x 6 pixels at ``top``, ``left``."""
    _, colour, shape = caption.split()
    rows, columns = np.mgrid[:6, :6]
    inside = {
        "square": np.ones((6, 6), bool),
        "cross": (rows // 2 == 1) | (columns // 2 == 1),
        "bar": rows // 2 == 1,
        "frame": (rows % 5 == 0) | (columns % 5 == 0),
    }[shape]
    picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
    picture[top : top + 6, left : left + 6][inside] = COLOURS[colour]
    return picture


@dataclass(frozen=True, kw_only=True)
class Shapes(Data):
    """Columns ``image``, ``caption`` and ``match``, 1 where the caption is the picture's own."""

    examples: int = 256
    """Training records; validation and test have 60 each."""

    def open(self, split: str) -> Source:
        count = self.examples if split == "train" else 60
        rng = np.random.default_rng({"train": 0, "validation": 1, "test": 2}[split])
        shown = rng.integers(len(CAPTIONS), size=count)
        match = rng.integers(2, size=count)
        said = np.where(match == 1, shown, (shown + rng.integers(1, len(CAPTIONS), size=count)) % len(CAPTIONS))
        images = np.stack([drawn(CAPTIONS[i], *rng.integers(0, SIDE - 5, size=2)) for i in shown])
        images = np.clip(images + rng.normal(0, 8, images.shape), 0, 255).astype(np.uint8)
        columns = {"image": images, "caption": [CAPTIONS[i] for i in said], "match": match}
        return Memory(columns, {"image": "image", "caption": "text", "match": "int"})


def catalogue() -> Source:
    """One clean picture of each caption."""
    columns = {"image": np.stack([drawn(caption) for caption in CAPTIONS]), "caption": list(CAPTIONS)}
    return Memory(columns, {"image": "image", "caption": "text"})
