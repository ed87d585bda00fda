"""Masks as COCO has them: polygons or runs of each annotation, painted over each other."""

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from suite.data.preprocessing.areas import NoArea, area_of
from suite.data.preprocessing.image import MAX_PIXELS
from suite.data.preprocessing.masks import IGNORED
from suite.data.sources.annotated_files import Files, Masked, split_named
from suite.data.sources.coco import SAME_ID, id_of, identified, key_of, listed
from suite.data.sources.memory import LeftOut
from suite.errors import InputError
from suite.runtime import json_files


class _Picture(NamedTuple):
    """A picture, and the (name of the class, area as stated, what it is called) of its annotations."""

    split: str
    picture: str
    size: tuple[int, int]
    areas: list[tuple[str, Any, str]]
    where: str


def read_coco_masks(
    files: Files, names: list[str], background: str, left: dict[str, LeftOut]
) -> tuple[list[str], Iterator[Masked], list[str]]:
    """(names of the classes, pictures with masks, what was guessed).

    Args:
        files: of the folder.
        names: JSON files, each of the split that its name, or its folder's, says.
        background: what pixels within no area are called.
        left: split -> what is left out, which grows.

    Raises:
        InputError: a file is no COCO JSON, or there are more classes than 255.
    """
    several = len(names) > 1
    notes = []
    if several and any(map(split_named, names)):
        notes = [f"{name} names no split, and is not read" for name in names if not split_named(name)]
        names = [name for name in names if split_named(name)]
    pictures: list[_Picture] = []
    labels: list[str] = []
    for name in names:
        pictures += _pictures(files, name, split_named(name) if several else "", labels, left)
    classes = [background, *(label for label in dict.fromkeys(labels) if label != background)]
    if len(classes) > IGNORED:
        raise InputError(
            files.called(names[0]), f"has more than {IGNORED - 1} categories.", found=str(len(classes) - 1)
        )
    return classes, _masked(pictures, classes, left), notes


def _pictures(files: Files, name: str, split: str, labels: list[str], left: dict[str, LeftOut]) -> Iterator[_Picture]:
    where = files.called(name)
    content = json_files.parse(files.text(name), where, fix="export it again as COCO JSON")
    if not isinstance(content, dict):
        raise InputError(where, "is no COCO JSON: it must be an object.")
    categories = {id_of(item): str(item.get("name", "")).strip() for item in listed(content, "categories", where)}
    labels += [label for label in categories.values() if label]
    areas: dict[Any, list[tuple[str, Any, str]]] = {}
    for item in listed(content, "annotations", where, required=False):
        told = f"annotation {item.get('id')}"
        label = categories.get(key_of(item.get("category_id")), "")
        areas.setdefault(key_of(item.get("image_id")), []).append((label, item.get("segmentation"), told))
    dropped = left.setdefault(split, LeftOut())
    for image, alone in identified(listed(content, "images", where)):
        called = str(image.get("file_name", ""))
        picture = files.find(called, posixpath.dirname(name), split) if called else ""
        height, width = image.get("height"), image.get("width")
        own = areas.pop(id_of(image), [])
        if not alone:
            dropped.add(SAME_ID, called)
        elif not picture:
            dropped.add("no such picture", called or f"image {image.get('id')}")
        elif not isinstance(height, int) or not isinstance(width, int) or not 0 < height * width <= MAX_PIXELS:
            dropped.add("picture whose annotation states no width and height", called)
        else:
            yield _Picture(split, picture, (height, width), own, called)
    for others in areas.values():
        for _, _, told in others:
            dropped.add("area of no picture", told)


def _masked(pictures: list[_Picture], classes: list[str], left: dict[str, LeftOut]) -> Iterator[Masked]:
    numbers = {label: number for number, label in enumerate(classes)}
    for split, picture, size, areas, where in pictures:
        covered = []
        for label, stated, told in areas:
            try:
                if label not in numbers:
                    raise NoArea("a class that is no category")
                covered.append((numbers[label], area_of(stated, size)))
            except NoArea as error:
                left.setdefault(split, LeftOut()).add(f"area of {error}", f"{where}, {told}")
        mask = np.zeros(size, np.uint8)
        for number, pixels in sorted(covered, key=lambda area: -int(area[1].sum())):
            mask[pixels] = number
        yield Masked(split, picture, mask, where)
