"""Boxes as COCO has them: a JSON file a split, of images, annotations and categories."""

import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from suite.data.preprocessing.boxes import Box
from suite.data.sources.annotated_files import Annotations, Files, Stated, split_named
from suite.errors import InputError
from suite.runtime import json_files

HEAD = 1 << 16
"""Bytes at both ends of a JSON file by which it is judged."""
_NAN = (math.nan,) * 4


def coco_files(files: Files) -> list[str]:
    """JSON files that hold images and annotations, by the keys at their ends."""
    return [name for name in files.named(".json") if _is_coco(files, name)]


def _is_coco(files: Files, name: str) -> bool:
    value = files.entries[name]
    if isinstance(value, bytes):
        head = value[:HEAD] + value[-HEAD:]
    else:
        with open(value, "rb") as stream:
            head = stream.read(HEAD)
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - HEAD, 0))
            head += stream.read()
    has = lambda *keys: any(f'"{key}"'.encode() in head for key in keys)
    inside = ("bbox", "segmentation")
    return has("images", "file_name") and has("annotations", *inside) and has("categories", *inside)


def read_coco(files: Files, names: list[str]) -> Annotations:
    """The boxes of JSON files, each of the split that its name, or its folder's, says.

    Raises:
        InputError: a file is no JSON, or has no list of images or categories.
    """
    annotations = Annotations({}, {}, [])
    several = len(names) > 1
    unnamed = [name for name in names if several and not split_named(name)]
    if len(unnamed) < len(names):
        annotations.notes.extend(f"{name} names no split, and is not read" for name in unnamed)
        names = [name for name in names if name not in unnamed]
    for name in names:
        split = split_named(name) if several else ""
        _read(files, name, split, annotations)
    return annotations


def _read(files: Files, name: str, split: str, annotations: Annotations) -> None:
    """Adds the pictures of a file."""
    where = files.called(name)
    content = json_files.parse(files.text(name), where, fix="export it again as COCO JSON")
    if not isinstance(content, dict):
        raise InputError(where, "is no COCO JSON: it must be an object.", fix=_EXAMPLE)
    images, categories = listed(content, "images", where), listed(content, "categories", where)
    labels = {id_of(item): str(item.get("name", "")).strip() for item in categories}
    twice = [label for label, count in Counter(labels.values()).items() if count > 1]
    if twice:
        annotations.notes.append(f"categories of one name are taken for one class: {', '.join(sorted(twice)[:5])}")
    boxes: dict[Any, list[Box]] = {id_of(image): [] for image in images}
    beside = posixpath.dirname(name)
    for item in listed(content, "annotations", where, required=False):
        picture = key_of(item.get("image_id"))
        if picture not in boxes:
            annotations.leave_out(split, "box of no picture", f"annotation {item.get('id')}")
            continue
        boxes[picture].append(_box(item, labels))
    for image, alone in identified(images):
        called = str(image.get("file_name", ""))
        if not alone:
            annotations.leave_out(split, SAME_ID, called)
            continue
        picture = files.find(called, beside, split) if called else ""
        if not picture:
            annotations.leave_out(split, "no such picture", called or f"image {image.get('id')}")
            continue
        width, height = image.get("width"), image.get("height")
        stated = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
        size = (int(width), int(height)) if stated else None  # type: ignore[arg-type]
        annotations.add(split, Stated(picture, boxes[id_of(image)], size, False, called))


SAME_ID = "picture with the id of another one"
_EXAMPLE = '{"images": [...], "annotations": [...], "categories": [...]}'


def listed(content: Mapping[str, Any], key: str, where: str, required: bool = True) -> list[dict[str, Any]]:
    """The objects of a list."""
    value = content.get(key, None if required else [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(where, f'is no COCO JSON: "{key}" must be a list of objects.', fix=_EXAMPLE)
    return value


def key_of(value: Any) -> Any:
    """An id, as a key: 7 and "7" are two."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else repr(value)


def id_of(item: Mapping[str, Any]) -> Any:
    return key_of(item.get("id"))


def identified(images: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Each image once, and whether no other one has its id: else nothing says which of them its annotations are of."""
    names: dict[Any, dict[str, Mapping[str, Any]]] = {}
    for image in images:
        names.setdefault(id_of(image), {}).setdefault(str(image.get("file_name", "")), image)
    for same in names.values():
        yield from ((image, len(same) == 1) for image in same.values())


def _box(item: Mapping[str, Any], labels: Mapping[Any, str]) -> Box:
    """The box of an annotation, or around its polygons; with sides that are nan where it has neither."""
    sides, stated = item.get("bbox"), item.get("area", 0.0)
    if isinstance(sides, list) and len(sides) == 4 and all(map(_is_number, sides)):
        left, top, width, height = map(float, sides)
        around = (left, top, left + width, top + height)
    else:
        around = _around(item.get("segmentation"))
    area = float(stated) if _is_number(stated) and stated > 0 else 0.0
    return Box(around, labels.get(key_of(item.get("category_id")), ""), item.get("iscrowd") in (1, "1"), area)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _around(polygons: Any) -> tuple[float, float, float, float]:
    """The box around polygons, each x, y, x, y, ..."""
    places = list(_places(polygons))
    if not places or len(places) % 2:
        return _NAN  # type: ignore[return-value]
    across, down = places[::2], places[1::2]
    return min(across), min(down), max(across), max(down)


def _places(polygons: Any) -> Iterator[float]:
    for polygon in polygons if isinstance(polygons, list) else ():
        if isinstance(polygon, list) and len(polygon) % 2 == 0:
            yield from (float(place) for place in polygon if _is_number(place))
