"""Boxes of pictures: as records state them, and the names of what they are around.

A box is [left, top, right, bottom] in pixels of the upright picture; left and top count from 0, and right - left is the
width. Dims: n boxes of a picture.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from suite.contracts.bounds import check_bounds
from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.class_names import brief
from suite.data.reading import changed
from suite.data.sources.memory import cleaned
from suite.errors import InputError
from suite.runtime import json_files

CHUNK = 1000
"""Records read at a time."""
SHOWN = 20
"""Labels that a description counts."""
EVEN = 8
"""The places of boxes of a row are a multiple of it."""
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Classes of size, as COCO has them: least and largest area, in pixels of the stored picture."""
LARGEST = 1e12
"""Above any side of a box, in pixels, and any area."""
MOST_PLACES = 4096
"""Places of boxes that a row can have."""


class Box(NamedTuple):
    """A box of a record.

    Attributes:
        box: left, top, right, bottom, in pixels.
        label: name of what it is around.
        crowd: whether it is around things that nobody counted; answers within it are neither right nor wrong.
        area: of the thing, in pixels, where that is stated and is not the box's; else 0.
    """

    box: tuple[float, float, float, float]
    label: str
    crowd: bool = False
    area: float = 0.0

    @property
    def surface(self) -> float:
        """Area of the thing: as stated, else the box's, in pixels."""
        left, top, right, bottom = self.box
        return self.area or (right - left) * (bottom - top)

    def to_json(self) -> dict[str, Any]:
        """As a record holds it."""
        more = {"crowd": True} if self.crowd else {}
        return {"box": list(self.box), "label": self.label, **more, **({"area": self.area} if self.area else {})}


class NotBoxes(ValueError):
    """A value that states no boxes; the message says why."""


def boxes_of(value: Any) -> list[Box]:
    """The boxes that a record states, in its order: objects with ``box`` and ``label``, and ``crowd`` and ``area``
    where they are stated, or lists [left, top, right, bottom, label]; as JSON or as such.

    Raises:
        NotBoxes: it states none, or one without area.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise NotBoxes("boxes that are no JSON") from None
    if not isinstance(value, list | tuple):
        raise NotBoxes("boxes that are no list")
    return [_box(item) for item in value]


def _box(item: Any) -> Box:
    if isinstance(item, list | tuple) and len(item) == 5:
        item = {"box": item[:4], "label": item[4]}
    if not isinstance(item, Mapping) or not isinstance(item.get("box"), list | tuple) or len(item["box"]) != 4:
        raise NotBoxes("a box without left, top, right, bottom and a label")
    sides, label, area = item["box"], item.get("label"), item.get("area", 0.0)
    if not all(map(_is_number, (*sides, area))):
        raise NotBoxes("a box whose sides are no numbers")
    if not isinstance(label, str) or not label.strip():
        raise NotBoxes("a box without a label")
    left, top, right, bottom = map(float, sides)
    if not (left < right and top < bottom):
        raise NotBoxes("a box without area")
    return Box((left, top, right, bottom), label.strip(), bool(item.get("crowd", False)), float(area))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def box_faults(values: Sequence[Any]) -> dict[str, np.ndarray]:
    """Reason -> (b,) bool, the records whose boxes cannot be read; a missing value is no empty list."""
    faults: dict[str, np.ndarray] = {}
    for place, value in enumerate(values):
        reason = ""
        if value is None or (isinstance(value, str) and not value.strip()):
            reason = "no boxes"
        else:
            try:
                boxes_of(value)
            except NotBoxes as error:
                reason = str(error)
        if reason:
            faults.setdefault(reason, np.zeros(len(values), bool))[place] = True
    return faults


def without_unreadable_boxes(source: Source, name: str) -> Source:
    """The records whose column of boxes can be read; the others are dropped, counted and named."""
    faults = box_faults(source.column(name, np.arange(len(source))))
    kept = cleaned(source, faults)
    if not len(kept):
        raise InputError(
            f"column {name}",
            "no record states boxes.",
            found="; ".join(f"{count:,} with {reason}" for reason, count in kept.dropped.items()),
            fix='[{"box": [4, 8, 20, 30], "label": "cat"}], or another column by --task.boxes',
        )
    return kept


@dataclass(frozen=True, kw_only=True)
class BoxLabels(Preprocessor):
    """The names of what boxes are around, sorted, and how many boxes a row has places for, learnt from the training
    split."""

    suffix: ClassVar[str] = ".json"

    column: str = "boxes"
    """Field of the task that names the column of boxes."""

    boxes_per_picture: int = 0
    """Places of boxes that a row has: boxes beyond are left out, the smallest first. 0: as the picture of the training
    split with most boxes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, {"boxes_per_picture": (0, MOST_PLACES)})

    @property
    def names(self) -> list[str]:
        """The c classes, in the order of the model's outputs."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def counts(self) -> list[int]:
        """Boxes of each class in the training split, crowds not counted."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def most(self) -> int:
        """Places of boxes that a row has."""
        return _stored(self.file, changed(self.file))[2]

    @property
    def outputs(self) -> list[str]:
        """The c classes."""
        return self.names

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``.

        Raises:
            InputError: no record has a box.
        """
        counts, most = box_counts(source, column)
        if not counts:
            raise InputError(
                f"column {column}",
                "no training picture has a box: there is nothing to learn.",
                found=f"{len(source):,} pictures",
                fix="name another column by --task.boxes, or draw boxes",
            )
        names = sorted(counts)
        content = {"names": names, "counts": [counts[name] for name in names], "most": self.places(most)}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    def places(self, most: int) -> int:
        """Places of boxes that a row has, where a picture has ``most`` boxes at most."""
        return self.boxes_per_picture or min(max(-(-most // EVEN), 1) * EVEN, MOST_PLACES)

    def describe(self, source: Source, column: str) -> str:
        counts, most = box_counts(source, column)
        shown = ", ".join(f"{brief(name)} {count:,}" for name, count in counts.most_common(SHOWN))
        more = f", and {len(counts) - SHOWN:,} more classes" if len(counts) > SHOWN else ""
        return (
            f"column {column}: {counts.total():,} boxes of {len(counts)} classes, {most} in a picture at most: "
            f"{shown}{more}"
        )

    def sizes(self) -> dict[str, int]:
        """``outputs``: number of classes."""
        return {"outputs": len(self.names)}


@functools.lru_cache(maxsize=16)
def _stored(file: str, written: int) -> tuple[list[str], list[int], int]:
    def build(content: Any) -> tuple[list[str], list[int], int]:
        most = int(content["most"])
        if not 1 <= most <= MOST_PLACES:
            raise json_files.Malformed(f"most {most}")
        return json_files.texts(content["names"]), [int(count) for count in content["counts"]], most

    return json_files.load(file, build)


def box_counts(source: Source, column: str) -> tuple[Counter[str], int]:
    """Label -> boxes, without crowds, and the most boxes of a picture; of records that are clean."""
    counts: Counter[str] = Counter()
    most = 0
    for start in range(0, len(source), CHUNK):
        for value in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
            boxes = boxes_of(value)
            most = max(most, len(boxes))
            counts.update(box.label for box in boxes if not box.crowd)
    return counts, most
