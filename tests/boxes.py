"""Pictures of rectangles and discs with their boxes, written in each format that is read. For tests."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

LABELS = ("disc", "square")
"""Classes, sorted, as training learns them."""


class Thing(NamedTuple):
    """A thing of a picture: its class and the edges of its box, in whole pixels from 0."""

    label: str
    box: tuple[int, int, int, int]


class Drawn(NamedTuple):
    """A picture uint8 (h, w, 3), and what is on it."""

    name: str
    pixels: np.ndarray
    things: list[Thing]


def drawn(count: int, seed: int = 0, size: tuple[int, int] = (48, 64)) -> list[Drawn]:
    """Pictures of noise, of a height and width, with none to three red squares and blue discs each; those of every
    other picture are half as high as wide."""
    rng = np.random.default_rng(seed)
    pictures = []
    for place in range(count):
        height, width = (size[0], size[1] - 12) if place % 2 else size
        image = Image.fromarray(rng.integers(90, 160, (height, width, 3), np.uint8))
        draw, things = ImageDraw.Draw(image), []
        for _ in range(int(rng.integers(0, 4)) if place else 2):
            side = int(rng.integers(10, 20))
            left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            label = LABELS[int(rng.integers(2))]
            shape = draw.rectangle if label == "square" else draw.ellipse
            shape(
                (left, top, left + side - 1, top + side - 1), fill=(220, 30, 30) if label == "square" else (30, 30, 220)
            )
            things.append(Thing(label, (left, top, left + side, top + side)))
        pictures.append(Drawn(f"picture{place:03d}.png", np.asarray(image), things))
    return pictures


def write_pictures(folder: Path, pictures: list[Drawn]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        Image.fromarray(picture.pixels).save(folder / picture.name)


def write_coco(folder: Path, pictures: list[Drawn], labels: tuple[str, ...] = LABELS) -> Path:
    """``images/`` and ``boxes.json``; ids count from 0."""
    write_pictures(folder / "images", pictures)
    annotations = []
    for number, picture in enumerate(pictures):
        for thing in picture.things:
            left, top, right, bottom = thing.box
            sides = [left, top, right - left, bottom - top]
            more = {"area": sides[2] * sides[3], "iscrowd": 0, "category_id": labels.index(thing.label)}
            annotations.append({"id": len(annotations), "image_id": number, "bbox": sides, **more})
    images = [
        {"id": number, "file_name": picture.name, "height": picture.pixels.shape[0], "width": picture.pixels.shape[1]}
        for number, picture in enumerate(pictures)
    ]
    categories = [{"id": number, "name": label} for number, label in enumerate(labels)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


def voc_text(picture: Drawn, filename: str = "", more: str = "") -> str:
    """The XML of a picture; corners count from 1 and the last pixel is part of the box."""
    objects = "".join(
        f"<object><name>{thing.label}</name><difficult>0</difficult><bndbox><xmin>{thing.box[0] + 1}</xmin>"
        f"<ymin>{thing.box[1] + 1}</ymin><xmax>{thing.box[2]}</xmax><ymax>{thing.box[3]}</ymax></bndbox></object>"
        for thing in picture.things
    )
    height, width = picture.pixels.shape[:2]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename or picture.name}</filename>{size}{objects}{more}</annotation>"


def write_voc(folder: Path, pictures: list[Drawn]) -> Path:
    """``JPEGImages/`` and ``Annotations/``."""
    write_pictures(folder / "JPEGImages", pictures)
    (folder / "Annotations").mkdir(parents=True)
    for picture in pictures:
        (folder / "Annotations" / f"{picture.name[:-4]}.xml").write_text(voc_text(picture))
    return folder


def yolo_text(picture: Drawn, labels: tuple[str, ...] = LABELS) -> str:
    """The lines of a picture, to six digits."""
    height, width = picture.pixels.shape[:2]
    lines = []
    for thing in picture.things:
        left, top, right, bottom = thing.box
        shares = (
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        )
        lines.append(f"{labels.index(thing.label)} " + " ".join(f"{share:.6f}" for share in shares))
    return "\n".join(lines)


def write_yolo(folder: Path, pictures: list[Drawn]) -> Path:
    """``images/``, ``labels/`` and ``classes.txt``."""
    write_pictures(folder / "images", pictures)
    (folder / "labels").mkdir(parents=True)
    for picture in pictures:
        (folder / "labels" / f"{picture.name[:-4]}.txt").write_text(yolo_text(picture))
    (folder / "classes.txt").write_text("\n".join(LABELS))
    return folder


def write_table(folder: Path, pictures: list[Drawn]) -> Path:
    """``boxes.csv`` beside the pictures; a row without sides where a picture has no box."""
    write_pictures(folder, pictures)
    rows = ["image,xmin,ymin,xmax,ymax,label"]
    for picture in pictures:
        rows += [f"{picture.name},{','.join(map(str, thing.box))},{thing.label}" for thing in picture.things]
        rows += [f"{picture.name},,,,,"] * (not picture.things)
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo, "table": write_table}
"""Format -> what writes it."""
