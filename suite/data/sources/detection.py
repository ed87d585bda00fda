"""Pictures with boxes on disk: COCO JSON, Pascal VOC XML, YOLO text files, or a table with a row a box."""

import functools
import json
import math
import posixpath
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.boxes import Box
from suite.data.preprocessing.image import SIDEWAYS, dimensions_and_turn, untold
from suite.data.reading import IMAGES, existing
from suite.data.sources.annotated_files import Annotations, Files, Stated, first_names, split_named
from suite.data.sources.box_tables import box_tables, read_box_tables
from suite.data.sources.coco import coco_files, read_coco
from suite.data.sources.memory import SPLITS, LeftOut, Memory, check_split
from suite.data.sources.splitting import held_out_fix, own_split, records_of
from suite.data.sources.voc import is_voc, read_voc
from suite.data.sources.yolo import is_yolo, read_yolo
from suite.errors import InputError

Format = Literal["", "coco", "voc", "yolo", "table"]
TITLES = {"coco": "COCO JSON", "voc": "Pascal VOC XML", "yolo": "YOLO text files", "table": "a table of boxes"}
"""Formats, as a person calls them."""
FIXED, SHARED = 6, 2
"""Digits behind the point of a side in pixels: where it is stated in pixels, and where it is stated as a share."""


@dataclass(frozen=True, kw_only=True)
class BoxFolder(Data):
    """Pictures with boxes: a folder, an archive (.tar, .tar.gz, .tar.xz), a COCO JSON file or a table.

    The format is recognised, and told by ``notes``: COCO JSON; Pascal VOC XML, a file a picture; YOLO text files, a
    file a picture, with ``data.yaml`` or ``classes.txt``; or a table (.csv, .tsv, .jsonl, .parquet) with the columns
    image, xmin, ymin, xmax, ymax and label, a row a box, or image and boxes, a row a picture. Splits are those that
    files, folders, ``ImageSets/Main``, ``data.yaml`` or a column name; else pictures are split by a hash of their name.

    Columns: ``image``, a path (bytes, from an archive); ``boxes``, a JSON list of objects with ``box`` [left, top,
    right, bottom], ``label``, and ``crowd`` and ``area`` where they are stated; ``file``. Sides are in pixels of the
    upright picture and count from its edges. Pictures are in the order of their names and boxes in that of their sides,
    so that the same pictures are the same records in each format. Shares of sides, as YOLO's, are rounded to a
    hundredth of a pixel, which they hardly state more finely.

    Boxes are cut at the picture's border. Those without area, outside the picture, of an unknown class, or stated twice
    are left out, counted and named, as are pictures that are missing or broken.
    """

    path: str
    """The folder, archive or file."""
    format: Format = ""
    """coco, voc, yolo or table. Empty: recognised."""
    first_pixel: Literal["", "0", "1"] = ""
    """How corners of Pascal VOC and of tables count: 1, from 1 and with the last pixel as part of the box; 0, as edges
    from 0. Empty: 1 for Pascal VOC unless a corner lies at 0, and 0 for tables."""
    difficult: bool = False
    """Whether objects that Pascal VOC marks as difficult are boxes like others. Otherwise they are as crowds: nothing
    is learnt there, and answers there count neither as right nor as wrong."""
    validation: float = 0.1
    """Share held out for validation where the data names no such split."""
    test: float = 0.1
    """Share held out for test where the data names no splits."""
    seed: int = 0
    """Seeds what is held out, by a hash of the picture's name."""

    def open(self, split: str) -> Source:
        """Pictures of a split.

        Raises:
            InputError: no such path or split, no boxes of a known format, or an empty split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        loaded = _load(Files.of(path), self.format, self.first_pixel, not self.difficult)
        given = [name for name in SPLITS if name in loaded]
        stored = "train" if split == "validation" and split not in given else split
        source = loaded.get(stored) if given else loaded.get("")
        if source is None:
            source = Memory({"image": [], "boxes": [], "file": []}, _SCHEMA)
        part = lambda fractions: own_split(_names(source), self.seed, fractions)
        return records_of(source, split, self, part, given, held_out_fix("pictures", split))


_SCHEMA = {"image": "image", "boxes": "boxes", "file": "text"}


def _names(source: Source) -> list[str]:
    return [posixpath.basename(name) for name in source.column("file", np.arange(len(source)))]


@functools.lru_cache(maxsize=4)
def _load(files: Files, stated: Format, first_pixel: str, ignore_difficult: bool) -> dict[str, Memory]:
    """Split -> its pictures; the split is empty where the data names none."""
    form, names, said = _recognised(files, stated)
    if form == "coco":
        annotations = read_coco(files, names)
    elif form == "voc":
        annotations = read_voc(files, first_pixel, ignore_difficult)
    elif form == "yolo":
        annotations = read_yolo(files)
    else:
        annotations = read_box_tables(files, names, first_pixel)
    splits = [split for split in annotations.splits if split]
    if splits and "" in annotations.splits:
        for picture in annotations.splits.pop(""):
            annotations.leave_out("train", "picture of no split", picture.where)
    if splits and "train" not in splits:
        fix = "call one train, or leave the names of splits out"
        raise InputError(files.root, "no picture is of train.", found=", ".join(splits), fix=fix)
    unsaid = _unannotated(files, annotations)
    if not annotations.splits:
        reasons = "; ".join(line for left in annotations.left.values() for line in left.lines())
        raise InputError(
            files.root,
            f"no picture of it has boxes, read as {TITLES[form]}.",
            found=reasons or "no annotation",
            fix="put the pictures where the annotations name them, or beside them",
        )
    return {
        split: _memory(files, pictures, annotations, split, [*said, *annotations.notes, *unsaid])
        for split, pictures in annotations.splits.items()
    }


def holds_boxes(path: Path) -> bool:
    """Whether a folder or an archive holds pictures with boxes, or a file boxes of pictures.

    Raises:
        InputError: an archive that is damaged, or a folder that cannot be opened.
    """
    files = Files.of(path)
    return bool(files.one or files.named(*IMAGES)) and any(_present(files).values())


def _present(files: Files) -> dict[str, bool]:
    """Format -> whether there are boxes of it."""
    return {
        "coco": bool(coco_files(files)),
        "voc": not files.one and is_voc(files),
        "yolo": is_yolo(files),
        "table": bool(box_tables(files)),
    }


def _recognised(files: Files, stated: Format) -> tuple[str, list[str], list[str]]:
    """The format, the files that hold its boxes, and what is to be said of it.

    Raises:
        InputError: the files hold no boxes, or none of the format that is stated.
    """
    present = [form for form, known in _present(files).items() if known]
    if not present or (stated and stated not in present):
        raise InputError(
            files.called(files.one) if files.one else files.root,
            f"holds no boxes that can be read{f' as {TITLES[stated]}' if stated else ''}.",
            found=_seen(files, present),
            fix=f"--task.data.format {shlex.quote(present[0])}"
            if present
            else "a COCO .json with images, annotations and categories; Pascal VOC .xml files; a YOLO data.yaml; or a "
            "table with the columns image,xmin,ymin,xmax,ymax,label",
        )
    form = stated or present[0]
    also = [other for other in present if other != form]
    said = f"boxes read as {TITLES[form]}"
    if also and not stated:
        flags = " or ".join(shlex.join(["--task.data.format", other]) for other in also)
        said += f"; {', '.join(TITLES[other] for other in also)} lie there as well ({flags})"
    chosen = coco_files(files) if form == "coco" else box_tables(files) if form == "table" else []
    named = [f"{name} as {split}" for name in chosen if (split := split_named(name)) and len(chosen) > 1]
    return form, chosen, [said, *([f"files that name splits: {', '.join(named)}"] if named else [])]


def _seen(files: Files, present: Sequence[str]) -> str:
    """What there is, for an error."""
    if present:
        return ", ".join(TITLES[form] for form in present)
    endings = Counter(posixpath.splitext(name)[1].lower() or "no extension" for name in files.entries)
    return ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(6)) or "no file"


def _unannotated(files: Files, annotations: Annotations) -> list[str]:
    """A line on the pictures that no annotation names."""
    named = {stated.picture for pictures in annotations.splits.values() for stated in pictures}
    bare = [name for name in files.named(*IMAGES) if name not in named]
    if not bare:
        return []
    return [f"{len(bare):,} pictures that no annotation names are not read: {first_names(bare)}"]


def _memory(files: Files, pictures: list[Stated], annotations: Annotations, split: str, said: list[str]) -> Memory:
    """The records of a split, in the order of the pictures' names."""
    left, changes = LeftOut(), Counter[str]()
    for reason, name, count in _left(files, annotations, split):
        left.add(reason, name, count)
    columns: dict[str, list[str | bytes]] = {"image": [], "boxes": [], "file": []}
    seen: set[str] = set()
    for stated in sorted(pictures, key=lambda stated: (posixpath.basename(stated.picture), stated.picture)):
        if stated.picture in seen:
            left.add("picture that is annotated twice", stated.where)
            continue
        seen.add(stated.picture)
        boxes = _cleaned(files, stated, left, changes)
        if boxes is None:
            continue
        columns["image"].append(files.entries[stated.picture])
        columns["boxes"].append(json.dumps([box.to_json() for box in boxes], ensure_ascii=False))
        columns["file"].append(stated.picture)
        changes["pictures without a box"] += not boxes
    notes = [f"{count:,} {what}" for what, count in changes.items() if count]
    return Memory(columns, _SCHEMA, None, left.counts, left.names, (*said, *notes))


def _left(files: Files, annotations: Annotations, split: str) -> list[tuple[str, str, int]]:
    """What reading left out of a split, or of the files as a whole: reason, a name, how many of that name."""
    parts = [files.left, *(annotations.left[name] for name in dict.fromkeys(("", split)) if name in annotations.left)]
    told = []
    for part in parts:
        for reason, count in part.counts.items():
            names = part.names.get(reason, [])
            told += [(reason, name, 1) for name in names] + [(reason, "", count - len(names))]
    return [entry for entry in told if entry[2]]


def _cleaned(files: Files, stated: Stated, left: LeftOut, changes: Counter[str]) -> list[Box] | None:
    """The boxes of a picture, in pixels of it as it is seen; None where it is left out."""
    value = files.entries[stated.picture]
    try:
        height, width, held = dimensions_and_turn(value)
    except InputError:
        left.add("broken image", stated.where)
        return None
    turn = 1
    if stated.size is not None and stated.size != (width, height):
        turn = held
        if turn not in SIDEWAYS or stated.size != (height, width):
            left.add("picture of another size than its annotation states", stated.where)
            return None
        changes["pictures that the camera turned, whose boxes are turned with them"] += 1
    elif untold(held, height, width) or (held != 1 and stated.size is None):
        changes["pictures that the camera turned, whose boxes are taken as of the upright picture"] += 1
    boxes: dict[Box, None] = {}
    for box in stated.boxes:
        fixed, reason = _fixed(box, stated, turn, (width, height))
        if fixed is None:
            left.add(reason, stated.where)
        elif fixed in boxes:
            left.add("box that is stated twice", stated.where)
        else:
            changes["boxes that reach beyond their picture, and are cut at its border"] += reason == "cut"
            boxes[fixed] = None
    return sorted(boxes)


def _fixed(box: Box, stated: Stated, turn: int, size: tuple[int, int]) -> tuple[Box | None, str]:
    """A box in pixels of the upright picture, cut at its border, and ``"cut"`` where it was; or None, and why it is
    none."""
    if not all(map(math.isfinite, box.box)):
        return None, "box whose sides are no numbers"
    if not box.label:
        return None, "box of an unknown class"
    width, height = size
    left, top, right, bottom = _turned(box.box, turn, (height, width))
    if stated.shares:
        left, top, right, bottom = (
            round(share * side, SHARED) for share, side in zip((left, top, right, bottom), (*size, *size), strict=True)
        )
    if right <= left or bottom <= top:
        return None, "box without area"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return None, "box outside its picture"
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    whole = inside == (left, top, right, bottom)
    left, top, right, bottom = (round(side, FIXED) + 0.0 for side in inside)  # never -0.0
    if right <= left or bottom <= top:
        return None, "box without area"
    surface = (right - left) * (bottom - top)
    area = 0.0 if abs(box.area - surface) < 0.01 or box.area > surface or not whole else round(box.area, FIXED)
    return Box((left, top, right, bottom), box.label, box.crowd, area), "" if whole else "cut"


def _turned(
    sides: tuple[float, float, float, float], turn: int, stored: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Sides within a picture as the camera stored it, in the picture as it is seen.

    Args:
        sides: left, top, right, bottom.
        turn: how the camera was held, as Exif counts it; 1 turns nothing.
        stored: width and height of the picture as it is stored.
    """
    left, top, right, bottom = sides
    width, height = stored
    across = (height - bottom, height - top) if turn in (6, 7) else (top, bottom)
    down = (width - right, width - left) if turn in (7, 8) else (left, right)
    return (across[0], down[0], across[1], down[1]) if turn in SIDEWAYS else sides
