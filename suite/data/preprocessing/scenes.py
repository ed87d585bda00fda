"""Rows of pictures with boxes, as detectors learn from them. Dims: b pictures of h x w pixels, m places of boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.data import Source
from suite.data.augment import Augmentation
from suite.data.box_augment import NO_BOX, BoxAugmentation
from suite.data.notes import listed
from suite.data.preprocessing.boxes import CHUNK, SIZES, Box, BoxLabels, boxes_of
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.letterbox import content, letterboxes, onto_canvas


def scenes(
    columns: Columns,
    image: str,
    boxes: str,
    statistics: PixelStatistics,
    labels: BoxLabels,
    rng: np.random.Generator | None = None,
    augment: Sequence[Augmentation | BoxAugmentation] = (),
) -> dict[str, Any]:
    """Letterboxed pictures with their boxes; augmented where ``rng`` is given.

    Args:
        columns: records.
        image, boxes: names of their columns; without the second only ``image`` and ``content`` are made.
        statistics: size and channels of the canvas.
        labels: classes, and how many places of boxes a row has.
        rng: draws the augmentations.
        augment: applied in order.

    Returns:
        ``image`` uint8 (b, h, w, c), and ``content`` float32 (b, 4): left, top, right and bottom of what is picture
        there, not canvas. ``boxes`` float32 (b, m, 4): left, top, right, bottom, in pixels of the canvas;
        ``labels`` int32 (b, m), -1 where a place holds no box; ``crowd`` bool (b, m), where nothing is to be learnt and
        nothing is counted. Without ``rng`` also ``area`` float32 (b, m), in pixels of the stored picture, and
        ``placed`` float32 (b, 6), see `suite.data.preprocessing.letterbox.placement`. Boxes of labels that training
        doesn't have are left out, as are those beyond m, the smallest first.

    Raises:
        InputError: an image that cannot be decoded.
    """
    images, placed = letterboxes(statistics)(columns[image])
    if boxes not in columns:
        return {"image": images, "content": content(placed)}
    names = {name: place for place, name in enumerate(labels.names)}
    rows = [fitting(boxes_of(value), names, labels.most) for value in columns[boxes]]
    shape = len(rows), labels.most
    scene: dict[str, Any] = {
        "image": images,
        "content": content(placed),
        "boxes": np.zeros((*shape, 4), np.float32),
        "labels": np.full(shape, NO_BOX, np.int32),
        "crowd": np.zeros(shape, bool),
    }
    area = np.zeros(shape, np.float32)
    for place, row in enumerate(rows):
        if row:
            count = slice(0, len(row))
            scene["boxes"][place, count] = onto_canvas(np.array([box.box for box in row]), placed[place])
            scene["labels"][place, count] = [names[box.label] for box in row]
            scene["crowd"][place, count] = [box.crowd for box in row]
            area[place, count] = [box.surface for box in row]
    if rng is None:
        return {**scene, "area": area, "placed": placed}
    for change in augment:
        if isinstance(change, BoxAugmentation):
            scene = change(scene, rng)
        else:
            scene = {**scene, "image": change(scene["image"], rng)}
    return scene


def fitting(boxes: Sequence[Box], names: Mapping[str, int], most: int) -> list[Box]:
    """The boxes of known labels, at most so many: the largest, in the order they had."""
    known = [box for box in boxes if box.label in names]
    if len(known) <= most:
        return known
    order = sorted(range(len(known)), key=lambda place: (-known[place].surface, place))[:most]
    return [known[place] for place in sorted(order)]


def box_remarks(splits: Mapping[str, Source], column: str, labels: BoxLabels) -> list[str]:
    """Lines on boxes that rows leave out: those of labels that training doesn't have, and those beyond the places of a
    row; and on classes and sizes of which a split has no box."""
    names = {name: place for place, name in enumerate(labels.names)}
    lines = []
    for split, source in splits.items():
        unknown: dict[str, int] = {}
        known: set[str] = set()
        absent_sizes = dict(SIZES)
        crowded = beyond = 0
        for start in range(0, len(source), CHUNK):
            for value in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
                boxes = boxes_of(value)
                left = len([box for box in boxes if box.label in names]) - labels.most
                crowded, beyond = crowded + (left > 0), beyond + max(left, 0)
                for box in boxes:
                    known.add(box.label)
                    for size in [size for size, (low, high) in absent_sizes.items() if low <= box.surface <= high]:
                        del absent_sizes[size]
                    if box.label not in names:
                        unknown[box.label] = unknown.get(box.label, 0) + 1
        if unknown:
            lines.append(
                f"{split}: {sum(unknown.values()):,} boxes of labels that training does not have are left out: "
                f"{listed(sorted(unknown)[:5], len(unknown))}"
            )
        if beyond:
            lines.append(
                f"{split}: {crowded:,} pictures have more than {labels.most} boxes; {beyond:,} boxes, the smallest, "
                "are left out (--task.labels.boxes_per_picture)"
            )
        if absent := sorted(names.keys() - known):
            lines.append(f"{split}: no box is of the class {listed(absent[:5], len(absent))}")
        for size, (low, high) in absent_sizes.items() if split != "train" else ():
            sides = f"{low**0.5:.0f} x {low**0.5:.0f}", f"{high**0.5:.0f} x {high**0.5:.0f}"
            bounds = f"up to {sides[1]}" if not low else f"above {sides[0]}" if high > 1e9 else " to ".join(sides)
            lines.append(f"{split}: no thing is {size} ({bounds} pixels): AP_{size} is left out")
    return lines
