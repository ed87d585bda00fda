"""Boxes as tables have them: a row a box, or a row a picture with a list of its boxes."""

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.data.preprocessing.boxes import Box, NotBoxes, boxes_of
from suite.data.reading import is_missing
from suite.data.sources import tables
from suite.data.sources.annotated_files import Annotations, Files, Stated, split_named
from suite.data.sources.column_types import Reading
from suite.data.sources.memory import Memory
from suite.data.sources.split_names import split_of
from suite.data.sources.voc import edges
from suite.errors import InputError

EXTENSIONS = (".csv", ".tsv", ".jsonl", ".parquet")
"""Extensions of such tables."""
COLUMNS = {
    "picture": ("image", "filename", "file", "file_name", "image_path", "path", "image_id", "picture"),
    "label": ("label", "class", "class_name", "category", "name"),
    "left": ("xmin", "x_min", "x1", "left"),
    "top": ("ymin", "y_min", "y1", "top"),
    "right": ("xmax", "x_max", "x2", "right"),
    "bottom": ("ymax", "y_max", "y2", "bottom"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
    "crowd": ("crowd", "iscrowd"),
    "area": ("area",),
    "split": ("split", "set"),
    "boxes": ("boxes", "objects"),
}
"""What a column is -> names that it may have."""
_SIDES = ("left", "top", "right", "bottom")


def box_tables(files: Files) -> list[str]:
    """Tables with the columns of boxes."""
    return [
        name for name in files.named(*EXTENSIONS) if "/" not in name.partition("/")[2] and _is_of_boxes(files, name)
    ]


def _is_of_boxes(files: Files, name: str) -> bool:
    value, head = files.entries[name], b""
    try:
        if isinstance(value, str) and name.lower().endswith(".parquet"):
            import pyarrow.parquet as pq

            known = _columns(pq.read_schema(value).names)
        else:
            head = value[: 1 << 16] if isinstance(value, bytes) else _head(value)
            known = _columns(list(tables.parse(head[: head.rfind(b"\n") + 1], files.called(name)).schema))
    except InputError:
        # Not UTF-8, or no table: where its first line names the columns of boxes, that is said.
        line = head.partition(b"\n")[0].decode("latin-1")
        if not _are_of_boxes(_columns(re.split("[,;\t]", line.strip().replace('"', "")))):
            return False
        raise
    except (ValueError, OSError):  # pyarrow's errors are both
        return False
    return _are_of_boxes(known)


def _are_of_boxes(known: Mapping[str, str]) -> bool:
    return "picture" in known and (known.keys() >= {*_SIDES, "label"} or "boxes" in known)


def _head(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(1 << 16)


def _columns(names: Sequence[str]) -> dict[str, str]:
    """What a column is -> its name, of those that are known."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    return {
        what: next(lower[name] for name in known if name in lower)
        for what, known in COLUMNS.items()
        if any(name in lower for name in known)
    }


def read_box_tables(files: Files, names: Sequence[str], first_pixel: str) -> Annotations:
    """The boxes of tables, each of the split that a column, its name, or its folder's, says. A row whose sides are all
    empty states that its picture has no box."""
    annotations = Annotations({}, {}, [])
    for name in names:
        _read(files, name, split_named(name) if len(names) > 1 else "", first_pixel == "1", annotations)
    return annotations


def _read(files: Files, name: str, split: str, from_one: bool, annotations: Annotations) -> None:
    table, known = _table(files, name)
    annotations.notes.extend(table.notes)
    for reason, count in table.dropped.items():
        for _ in range(count):
            annotations.leave_out(split, reason, name)
    columns = {what: _values(table, column) for what, column in known.items()}
    beside = posixpath.dirname(name)
    rows: dict[tuple[str, str], list[Box]] = {}
    sizes: dict[tuple[str, str], tuple[int, int] | None] = {}
    missing: set[str] = set()
    for row in range(len(table)):
        said = {what: values[row] for what, values in columns.items()}
        of = split_of(str(said["split"])) if "split" in said and not is_missing(said["split"]) else split
        if is_missing(said["picture"]):
            annotations.leave_out(of, "row that names no picture", f"row {row + 1} of {name}")
            continue
        called = str(said["picture"]).strip()
        picture = files.find(called, beside, of) or files.find(called, beside, of, stem=True)
        if not picture:
            if called not in missing:
                annotations.leave_out(of, "no such picture", called)
            missing.add(called)
            continue
        boxes = rows.setdefault((of, picture), [])
        sizes.setdefault((of, picture), _size(said))
        try:
            boxes.extend(_boxes(said, from_one))
        except NotBoxes as error:
            annotations.leave_out(of, str(error), called)
    for (of, picture), boxes in rows.items():
        annotations.add(of, Stated(picture, boxes, sizes[of, picture], False, posixpath.basename(picture)))


def _values(table: Memory, column: str) -> list[Any]:
    values = table.column(column, np.arange(len(table)))
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _table(files: Files, name: str) -> tuple[Memory, dict[str, str]]:
    """A table with the columns that are known; names of pictures and classes are texts."""
    value = files.entries[name]
    load = lambda how: (
        tables.parse(value, name, how) if isinstance(value, bytes) else tables.load(Path(value), how, most=1 << 40)
    )
    known = _columns(list(load(Reading()).schema))
    texts = tuple(known[what] for what in ("picture", "label", "split") if what in known)
    boxes = (known["boxes"],) if "boxes" in known and not known.keys() >= set(_SIDES) else ()
    return load(Reading(texts=texts, json=boxes, keep=texts)), known


def _size(said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of the picture, where a row states them."""
    width, height = said.get("width"), said.get("height")
    both = all(isinstance(side, int | float) and math.isfinite(side) and side > 0 for side in (width, height))
    return (int(width), int(height)) if both else None  # type: ignore[arg-type]


def _boxes(said: Mapping[str, Any], from_one: bool) -> list[Box]:
    """The boxes of a row; none where its sides are empty.

    Raises:
        NotBoxes: a list that states no boxes.
    """
    if not said.keys() >= set(_SIDES):
        value = said["boxes"]
        return [] if is_missing(value) else boxes_of(value)
    if all(is_missing(said[side]) for side in _SIDES):
        return []
    left, top, right, bottom = (_number(said[side]) for side in _SIDES)
    label = "" if is_missing(said.get("label")) else str(said["label"]).strip()
    crowd, area = _number(said.get("crowd")), _number(said.get("area"))
    box = Box((left, top, right, bottom), label, crowd == 1.0, area if area > 0 else 0.0)
    return [edges(box) if from_one else box]


def _number(value: Any) -> float:
    try:
        return math.nan if is_missing(value) else float(value)
    except (TypeError, ValueError):
        return math.nan
