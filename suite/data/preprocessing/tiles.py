"""Tiles: where a picture that is much larger than those of training is cut, so that each part is predicted by itself.

Dims: t tiles of a picture.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from suite.contracts.bounds import Bounds, check_bounds
from suite.contracts.signature import Output
from suite.data.preprocessing.image import MAX_PIXELS, sides
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Parts of one size that overlap and cover a picture together; none where the picture is no larger than one."""

    number_bounds: ClassVar[Bounds] = {"overlap": (0.0, 0.75), "most": (1, 256)}

    size: tuple[int, int] | None = None
    """Height and width of a tile in pixels of the picture, each of which fills the canvas. None: pictures are predicted
    whole, whatever their size."""
    overlap: float = 0.25
    """Share of a tile's height and width that the next one has, too; at least."""
    most: int = 64
    """Most tiles of a picture; one that needs more is refused."""

    def __post_init__(self) -> None:
        check_bounds(self, self.number_bounds)
        if self.size is not None:
            check_bounds(self, {"size": (1, MAX_PIXELS)})

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What an answer says of them besides what was found."""
        if self.size is None:
            return ()
        about = f"parts that the image was predicted in; 1 where it is no larger than {self.size[1]} x {self.size[0]}"
        return (Output(name="tiles", kind="number", description=about, low=1, whole=True),)

    def places(self, height: int, width: int, of: str = "image") -> np.ndarray:
        """Left, top, right and bottom of the tiles of a picture, int64 (t, 4), row by row; the whole of one that fits
        in a tile.

        Args:
            height, width: of the picture.
            of: what an error calls it.

        Raises:
            InputError: there are more than ``most``.
        """
        high, wide = (height, width) if self.size is None else (min(self.size[0], height), min(self.size[1], width))
        tops, lefts = self._starts(height, high), self._starts(width, wide)
        if len(tops) * len(lefts) > self.most:
            enough = self._enough(height, width, high, wide)
            larger = f'suite.replace(run.experiment, {{"task.tiles.size": {enough}}})'
            raise InputError(
                of,
                f"takes more than {self.most} tiles, each {sides(high, wide)}.",
                found=f"{sides(height, width)}: {len(lefts) * len(tops):,} tiles",
                fix=f"scale it down, or larger tiles in Python: dataclasses.replace(run, experiment={larger})",
            )
        return np.array([(left, top, left + wide, top + high) for top in tops for left in lefts], np.int64)

    def _enough(self, height: int, width: int, high: int, wide: int) -> tuple[int, int]:
        """Height and width of tiles of which a picture takes no more than ``most``."""
        while len(self._starts(height, high)) * len(self._starts(width, wide)) > self.most:
            high, wide = min(2 * high, height), min(2 * wide, width)
        return high, wide

    def _starts(self, side: int, tile: int) -> list[int]:
        """Where the tiles along one side begin: evenly spaced, the last one ends where the picture does."""
        step = max(tile * (1 - self.overlap), 1)
        count = math.ceil((side - tile) / step) + 1
        return [round((side - tile) * place / max(count - 1, 1)) for place in range(count)]


def cut(pixels: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """The tiles of a picture (h, w, c), by their `Tiles.places`, each a view of it."""
    return [pixels[top:bottom, left:right] for left, top, right, bottom in places]
