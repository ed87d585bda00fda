"""Artifacts of made pictures: rows of pictures, and made ones beside the training pictures that they are nearest to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.contracts.artifact import Artifact
from suite.evaluation.artifacts import Example, Gallery, Image
from suite.reporting.blocks import Block, Card, Cards
from suite.reporting.pictures import image

WIDE = 10
"""Pictures of a row."""
MOST_ROWS = 20


@dataclass(frozen=True)
class PictureRows(Artifact):
    """Rows of pictures, each with a name.

    Attributes:
        about: what they are, a sentence.
        rows: name and pictures uint8 (h, w, c) of each row; names may come again.
        most: rows that are kept.
        joins: whether rows of a name are one.
    """

    about: str
    rows: tuple[tuple[str, tuple[np.ndarray, ...]], ...]
    most: int = MOST_ROWS
    joins: bool = False

    @classmethod
    def by_name(cls, about: str, pictures: Iterable[tuple[str, np.ndarray]]) -> "PictureRows":
        """A row of each name, in the order of the names, of its first pictures."""
        rows = tuple((name, (picture,)) for name, picture in pictures)
        return cls(about, rows, joins=True)._whole()

    def __add__(self, other: "PictureRows") -> "PictureRows":
        return replace(self, rows=self.rows + other.rows)._whole()

    def _whole(self) -> "PictureRows":
        if not self.joins:
            return replace(self, rows=self.rows[: self.most])
        joined: dict[str, tuple[np.ndarray, ...]] = {}
        for name, pictures in self.rows:
            joined[name] = (joined.get(name, ()) + pictures)[:WIDE]
        return replace(self, rows=tuple(sorted(joined.items())[: self.most]))

    def blocks(self) -> Sequence[Block]:
        cards = tuple(
            Card(name, picture=image(Image(strip(pictures)), f"pictures: {name}")) for name, pictures in self.rows
        )
        return [Cards(cards, self.about)]


def strip(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (h, w, c) side by side, with a light line between them."""
    height, _, channels = pictures[0].shape
    line = np.full((height, 1, channels), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, line)][:-1]
    return np.concatenate(parts, 1)


def closest_copies(outputs: Mapping[str, Any], names: Sequence[str]) -> Gallery:
    """The made pictures that are nearest to a training picture, each beside it."""
    distance = np.asarray(outputs["distance"], np.float64)

    def show(place: int) -> Example:
        made, nearest = (Image(np.asarray(outputs[name][place])) for name in ("made", "nearest"))
        note = f"distance {distance[place]:.3g}"
        return Example({"made": made, "in training": nearest}, names[place], "", -float(distance[place]), note)

    about = "Made pictures that are nearest to a picture of training, in the features that they are compared in."
    return Gallery.worst(about, -distance, show)
