"""Boxes as Pascal VOC has them: an XML file a picture."""

import posixpath
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from suite.data.preprocessing.boxes import LARGEST, Box
from suite.data.reading import wide_encoding
from suite.data.sources.annotated_files import Annotations, Files, Stated, first_names, listed_names, split_in
from suite.data.sources.split_names import split_of
from suite.errors import InputError

MOST_BYTES = 8 << 20
"""Bytes of the largest XML file that is read."""
MOST_OBJECTS = 10_000
"""Objects of a picture that are read."""
_ENCODING = re.compile(rb'\s*<\?xml[^>]*?encoding\s*=\s*["\']([A-Za-z0-9._-]{1,40})["\']')
_DOCTYPE = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(files: Files) -> bool:
    """Whether one of the first XML files is an annotation of a picture."""
    return any(_tree(files, name) is not None for name in files.named(".xml")[:50])


def read_voc(files: Files, first_pixel: str, ignore_difficult: bool) -> Annotations:
    """The boxes of all XML files.

    Corners are pixels, counted from 1, and the last one belongs to the box, as the standard has it: 1 to 640 is the
    whole of 640 pixels. Where a file states a corner at 0, all are read as edges that count from 0.

    Args:
        files: of the data.
        first_pixel: ``"1"`` or ``"0"``, how corners count; empty: judged.
        ignore_difficult: whether objects marked as difficult are left to neither side, as crowds are.
    """
    annotations, names = Annotations({}, {}, []), files.named(".xml")
    lists = _lists(files)
    annotated: list[tuple[str, str, Stated]] = []
    other: list[str] = []
    marked = 0
    for name in names:
        stem = posixpath.splitext(posixpath.basename(name))[0]
        split = lists.get(stem, "none") if lists else split_in(name)
        root = _tree(files, name)
        if root is None:
            annotations.leave_out("", "no annotation of a picture", name)
            continue
        if split == "none":
            annotations.leave_out("", "in no list of ImageSets", name)
            continue
        boxes = []
        for box, hard in _boxes(root):
            ignored = ignore_difficult and hard
            marked += ignored
            boxes.append(box._replace(crowd=ignored))
        beside, called = posixpath.dirname(name), (root.findtext("filename") or "").strip()
        picture = files.find(stem, beside, split, stem=True)
        if picture and called and posixpath.basename(called.replace("\\", "/")) != posixpath.basename(picture):
            other.append(posixpath.basename(name))
        picture = picture or (files.find(called, beside, split) if called else "")
        annotated.append((split, name, Stated(picture, boxes, _size(root), False, posixpath.basename(name))))
    sides = [side for _, _, stated in annotated for box in stated.boxes for side in box.box[:2]]
    from_one = first_pixel == "1" if first_pixel else 0.0 not in sides
    for split, name, stated in annotated:
        if not stated.picture:
            annotations.leave_out(split, "no such picture", name)
            continue
        annotations.add(split, stated._replace(boxes=[edges(box) for box in stated.boxes]) if from_one else stated)
    annotations.notes.extend(_notes(from_one, first_pixel, marked, other))
    return annotations


def _notes(from_one: bool, first_pixel: str, marked: int, other: list[str]) -> Iterator[str]:
    if from_one:
        yield (
            "corners count from 1, and the last pixel is part of a box"
            + ("" if first_pixel else " (--task.data.first_pixel 0 where they are edges that count from 0)")
        )
    elif not first_pixel:
        yield "a corner lies at 0: corners are read as edges that count from 0 (--task.data.first_pixel)"
    if marked:
        yield (
            f"{marked:,} objects marked as difficult: answers there count neither as right nor as wrong "
            "(--task.data.difficult True takes them for others)"
        )
    if other:
        yield (
            f"{len(other):,} XML files state another file name than their own, and are read as of the picture called "
            f"as they are: {first_names(other)}"
        )


def edges(box: Box) -> Box:
    """A box of pixels that count from 1, by its edges. Two corners in one place mark a point, and no pixel."""
    left, top, right, bottom = box.box
    return box._replace(box=(left - (left < right), top - (top < bottom), right, bottom))


def _tree(files: Files, name: str) -> ElementTree.Element | None:
    """The root of an annotation; None where the file is no annotation: no XML, too large, or with a document type,
    which can name entities."""
    try:
        data = files.data(name)
        encoding = wide_encoding(data) or "utf-8-sig"
        if stated := _ENCODING.match(data):
            encoding = stated[1].decode("ascii") if encoding == "utf-8-sig" else encoding
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (InputError, LookupError, UnicodeError, OSError):
        return None
    if len(data) > MOST_BYTES or _DOCTYPE.search(text):
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None
    return root if root.tag == "annotation" else None


def _boxes(root: ElementTree.Element) -> Iterator[tuple[Box, bool]]:
    """The boxes of an annotation, and whether each is of an object that is marked as difficult. Sides that are no
    numbers are nan."""
    for thing in root.findall("object")[:MOST_OBJECTS]:
        bounds = thing.find("bndbox")
        left, top, right, bottom = (_number(None if bounds is None else bounds.findtext(side)) for side in _SIDES)
        label, hard = (thing.findtext("name") or "").strip(), (thing.findtext("difficult") or "").strip() == "1"
        yield Box((left, top, right, bottom), label), hard


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height that are stated; None where they are not, or are 0."""
    width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    return (int(width), int(height)) if 0 < width < LARGEST and 0 < height < LARGEST else None


def _lists(files: Files) -> dict[str, str]:
    """Name of a picture without extension -> split, by ``ImageSets/Main``; empty where there are no such lists."""
    by_split: dict[str, list[str]] = {}
    for name in files.named(".txt"):
        parts = name.split("/")
        if "ImageSets" in parts[:-1] and (split := _of_list(posixpath.splitext(parts[-1])[0])):
            by_split.setdefault(split, []).extend(line.split()[0] for line in listed_names(files.text(name)))
    splits: dict[str, str] = {}
    for split in ("trainval", "train", "validation", "test"):  # the later one wins
        for stem in by_split.get(split, ()):
            splits[stem] = "train" if split == "trainval" else split
    return splits


def _of_list(stem: str) -> str:
    return "trainval" if stem.lower() == "trainval" else split_of(stem)
