"""Boxes: areas, overlaps, forms, and non-maximum suppression with shapes that are known beforehand.

A box is (left, top, right, bottom) in pixels unless said otherwise. All functions are jittable, and give the same
alone, in a batch (vmap) and in an exported program.

Dims: n m boxes, c candidates, r results.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_TINY = 1e-7
"""Added to areas that are divided by."""


def corners(boxes: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """(centre x, centre y, width, height) -> (left, top, right, bottom)."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([middle - half, middle + half], -1)


def centres(boxes: Float[Array, "... 4"]) -> Float[Array, "... 4"]:
    """(left, top, right, bottom) -> (centre x, centre y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def area(boxes: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """Width times height; 0 where the right side is left of the left one."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def _overlap(one: Float[Array, "... 4"], other: Float[Array, "... 4"]) -> tuple[Array, Array]:
    """Areas of intersection and union of boxes whose leading axes broadcast."""
    low = jnp.maximum(one[..., :2], other[..., :2])
    high = jnp.minimum(one[..., 2:], other[..., 2:])
    both = area(jnp.concatenate([low, high], -1))
    return both, area(one) + area(other) - both


def paired_iou(one: Float[Array, "... 4"], other: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """Intersection over union of each box with that at its place in ``other``; 0 of two boxes without area."""
    both, union = _overlap(one, other)
    return both / jnp.maximum(union, _TINY)


def paired_giou(one: Float[Array, "... 4"], other: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """Generalised intersection over union (`Rezatofighi et al., 2019 <https://arxiv.org/abs/1902.09630>`_) of each box
    with that at its place in ``other``: in -1..1, and falling with their distance where they don't meet."""
    both, union = _overlap(one, other)
    low = jnp.minimum(one[..., :2], other[..., :2])
    high = jnp.maximum(one[..., 2:], other[..., 2:])
    hull = area(jnp.concatenate([low, high], -1))
    return both / jnp.maximum(union, _TINY) - (hull - union) / jnp.maximum(hull, _TINY)


def iou(one: Float[Array, "... n 4"], other: Float[Array, "... m 4"]) -> Float[Array, "... n m"]:
    """Intersection over union of each box of ``one`` with each of ``other``."""
    return paired_iou(one[..., :, None, :], other[..., None, :, :])


def giou(one: Float[Array, "... n 4"], other: Float[Array, "... m 4"]) -> Float[Array, "... n m"]:
    """`paired_giou` of each box of ``one`` with each of ``other``."""
    return paired_giou(one[..., :, None, :], other[..., None, :, :])


def suppress(
    boxes: Float[Array, "c 4"], scores: Float[Array, "c"], labels: Int[Array, "c"], most_overlap: float
) -> Bool[Array, "c"]:
    """Greedy non-maximum suppression within classes: True where a box is kept.

    A box falls to a kept one of its class with a higher score, or as high a one that comes before, where their
    intersection over union is more than ``most_overlap``. Boxes whose score is not above 0 are never kept.

    Args:
        boxes: candidates, in any order.
        scores: of each.
        labels: class of each.
        most_overlap: in 0..1.
    """
    order = jnp.argsort(-scores, stable=True)
    boxes, labels = boxes[order], labels[order]
    count = boxes.shape[0]
    later = jnp.arange(count)[:, None] < jnp.arange(count)
    rivals = (iou(boxes, boxes) > most_overlap) & (labels[:, None] == labels) & later

    def fall(place: Array, kept: Array) -> Array:
        return kept & ~(rivals[place] & kept[place])

    kept = lax.fori_loop(0, count, fall, scores[order] > 0)
    return jnp.zeros(count, bool).at[order].set(kept)


def best_detections(
    boxes: Float[Array, "c 4"], scores: Float[Array, "c"], labels: Int[Array, "c"], most_overlap: float, most: int
) -> tuple[Float[Array, "r 4"], Float[Array, "r"], Int[Array, "r"]]:
    """The ``most`` boxes of the highest scores that `suppress` keeps, highest first; a place left over has score 0."""
    kept = suppress(boxes, scores, labels, most_overlap)
    scores, chosen = lax.top_k(jnp.where(kept, scores, 0), min(most, boxes.shape[0]))
    return jnp.where(scores[:, None] > 0, boxes[chosen], 0), scores, labels[chosen]
