"""Views of pictures, whose answers are averaged (test-time augmentation). Jitted. Dims: b, h, w, c."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

View = Literal["flip", "crops", "close"]
SIDES: dict[View, float] = {"crops": 7 / 8, "close": 2 / 3}
"""Share of each side that a crop has."""
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))


def views(images: jax.Array, names: Sequence[View]) -> list[jax.Array]:
    """The images (b, h, w, c) themselves, and further views of them, of the same size.

    Args:
        images: of any scale.
        names: ``crops``: the four corners and the middle, of 7/8 of each side, scaled to the whole (`Krizhevsky et al.,
            2012 <https://papers.nips.cc/paper/4824>`_); ``close``: the same of 2/3; ``flip``: each of these mirrored
            left to right, too.
    """
    sides = [side for name, side in SIDES.items() if name in names]
    seen = [images, *(_part(images, side, *corner) for side in sides for corner in _CORNERS)]
    return [*seen, *(image[:, :, ::-1] for image in seen)] if "flip" in names else seen


def mean_over_views(answer: Callable[[jax.Array], jax.Array], images: jax.Array, names: Sequence[View]) -> jax.Array:
    """Mean (b, ...) of what ``answer`` makes of each view."""
    return jnp.stack([answer(seen) for seen in views(images, names)]).mean(0)


def _part(images: jax.Array, side: float, top: float, left: float) -> jax.Array:
    """A crop at a share of the room that it has, scaled to the whole."""
    _, height, width, _ = images.shape
    moved = jnp.array([-top * (1 - side) * height, -left * (1 - side) * width]) / side
    return jax.image.scale_and_translate(
        images.astype(jnp.float32), images.shape, (1, 2), jnp.full(2, 1 / side), moved, "linear", antialias=False
    )
