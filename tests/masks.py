"""Pictures of discs and squares on noise, with their masks: background, disc, square."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("background", "disc", "square")
COLOURS = ((0, 0, 0), (200, 30, 40), (20, 200, 90))


def drawn(count, size=(32, 40), seed=0):
    """(pictures uint8 (h, w, 3), masks uint8 (h, w)), of which each shows a disc and a square."""
    rng = np.random.default_rng(seed)
    height, width = size
    down, along = np.mgrid[:height, :width]
    pairs = []
    for _ in range(count):
        picture = rng.integers(60, 130, (height, width, 3)).astype(np.uint8)
        mask = np.zeros(size, np.uint8)
        x, y, r = rng.integers(8, width - 8), rng.integers(8, height - 8), rng.integers(5, 8)
        mask[(down - y) ** 2 + (along - x) ** 2 <= r**2] = 1
        left, top, side = rng.integers(0, width - 12), rng.integers(0, height - 12), rng.integers(8, 12)
        mask[top : top + side, left : left + side] = 2
        for number, colour in ((1, (220, 60, 60)), (2, (60, 90, 220))):
            picture[mask == number] = colour
        pairs.append((picture, mask))
    return pairs


def write_folders(folder, pairs, kind="numbers", names=True):
    """``images/`` and ``masks/``: of numbers, of a palette, or of colours."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for place, (picture, mask) in enumerate(pairs):
        Image.fromarray(picture).save(folder / "images" / f"{place:02}.png")
        image = Image.fromarray(mask if kind != "colours" else np.array(COLOURS, np.uint8)[mask])
        if kind == "palette":
            image.putpalette([part for colour in COLOURS for part in colour])
        image.save(folder / "masks" / f"{place:02}.png")
    if names:
        lines = [f"{name} {' '.join(map(str, colour))}" for name, colour in zip(NAMES, COLOURS, strict=True)]
        (folder / "classes.txt").write_text("\n".join(lines if kind == "colours" else NAMES) + "\n")
    return folder


def runs_of(covered):
    """Lengths of runs of pixels (h, w), column by column, beginning with what is outside."""
    flat = covered.T.ravel()
    borders = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], borders, [flat.size]])).tolist()


def write_coco(folder, pairs):
    """COCO JSON: discs as runs, what is seen of squares as runs too, so that nothing overlaps."""
    folder.mkdir(parents=True)
    images, annotations = [], []
    for place, (picture, mask) in enumerate(pairs):
        Image.fromarray(picture).save(folder / f"{place:02}.png")
        height, width = mask.shape
        images.append({"id": place, "file_name": f"{place:02}.png", "height": height, "width": width})
        for number in (1, 2):
            area = {"size": [height, width], "counts": runs_of(mask == number)}
            about = {"id": len(annotations), "image_id": place, "category_id": number, "iscrowd": 1}
            annotations.append({**about, "segmentation": area})
    categories = [{"id": number, "name": NAMES[number]} for number in (1, 2)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    Path(folder / "annotations.json").write_text(json.dumps(content))
    return folder


WRITERS = {
    "numbers": write_folders,
    "palette": lambda folder, pairs: write_folders(folder, pairs, "palette"),
    "colours": lambda folder, pairs: write_folders(folder, pairs, "colours"),
    "coco": write_coco,
}
