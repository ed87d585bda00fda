"""Boxes as YOLO has them: a text file a picture, a line a box, in shares of the picture's sides."""

import math
import posixpath
from collections.abc import Sequence
from typing import Any

from suite.data.preprocessing.boxes import Box
from suite.data.reading import IMAGES
from suite.data.sources.annotated_files import (
    DESCRIPTIONS,
    Annotations,
    Files,
    Stated,
    first_names,
    listed_names,
    split_in,
)
from suite.data.sources.split_names import SPLITS
from suite.errors import InputError

LISTS = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels", "predefined_classes.txt")
"""Names of files that list the classes, a line each."""
MOST_YAML = 1 << 20
"""Bytes of the largest description of a data set."""
MOST_CLASSES = 10_000
"""Above any number of a class."""
_KEYS = {"train": "train", "val": "validation", "test": "test"}
_NAN = (math.nan,) * 4


def is_yolo(files: Files) -> bool:
    """Whether a description names classes or splits, or text files beside pictures, or in a folder of labels, hold
    boxes."""
    if _description(files):
        return True
    if files.one:
        return False
    written = [text for picture in files.named(*IMAGES)[:200] if (text := _labels_of(files, picture))]
    lines = (line for text in written[:20] for line in _lines(files, text) or ())
    return any(_box(line, []) is not None for line in lines)


def _lines(files: Files, name: str) -> list[str] | None:
    """The lines of a text file; None where it is no text."""
    try:
        return listed_names(files.text(name))
    except InputError:
        return None


def read_yolo(files: Files) -> Annotations:
    """The boxes of all pictures. A picture without a text file of its own has no box.

    The splits are those that ``data.yaml`` names, else those of folders. A line of a polygon becomes the box around it.
    """
    annotations, described = Annotations({}, {}, []), _description(files)
    pictures, place = files.named(*IMAGES), _splits(files, described)
    names = _names(files, described)
    bare = unlisted = 0
    numbers: set[int] = set()
    used: set[str] = set()
    for picture in pictures:
        split = place.get(picture) if place else split_in(picture)
        if split is None:
            unlisted += 1
            continue
        labels = _labels_of(files, picture)
        used.add(labels)
        bare += not labels
        lines = _lines(files, labels) if labels else []
        if lines is None:
            annotations.leave_out(split, "text file that is not UTF-8", labels)
            continue
        boxes = []
        for line in lines:
            box = _box(line, names)
            if box is None:
                annotations.leave_out(split, "line that states no box", f"{labels}: {line:.40}")
                continue
            numbers.add(int(float(line.split()[0])))
            boxes.append(box)
        annotations.add(split, Stated(picture, boxes, None, True, posixpath.basename(picture)))
    for name in _unused(files, used):
        annotations.leave_out(split_in(name), "text file without a picture", name)
    if bare:
        annotations.notes.append(f"{bare:,} pictures without a text file, read as pictures without a box")
    if unlisted:
        annotations.notes.append(f"{unlisted:,} pictures lie in no folder that the description names, and are not read")
    if not names and numbers:
        annotations.notes.append(
            f"no data.yaml and no {LISTS[0]} names the classes: they are called by their numbers, "
            f"{first_names(map(str, sorted(numbers)), 5)}"
        )
    return annotations


def _box(line: str, names: Sequence[str]) -> Box | None:
    """The box of a line, in shares of the sides: class, centre and size; or class and a polygon. None where it states
    none. A label is empty where no class has the number."""
    parts = line.split()
    try:
        number, values = float(parts[0]), [float(part) for part in parts[1:]]
    except (IndexError, ValueError):
        return None
    if (
        not 0 <= number < MOST_CLASSES
        or number != int(number)
        or not all(math.isfinite(value) and -1 <= value <= 2 for value in values)
    ):
        return None
    if len(values) == 4:
        across, down, width, height = values
        around = (across - width / 2, down - height / 2, across + width / 2, down + height / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        around = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    else:
        return None
    place = int(number)
    return Box(around, (names[place] if place < len(names) else "") if names else str(place))


def _labels_of(files: Files, picture: str) -> str:
    """The text file of a picture: beside it, or in a folder ``labels`` in place of ``images``; empty where there is
    none."""
    stem = posixpath.splitext(picture)[0]
    parts = stem.split("/")
    swapped = ["/".join([*parts[:at], "labels", *parts[at + 1 :]]) for at, part in enumerate(parts) if part == "images"]
    beside = ["/".join([*parts[:-1], "labels", parts[-1]])]
    return next((f"{place}.txt" for place in (*swapped[::-1], stem, *beside) if f"{place}.txt" in files.entries), "")


def _unused(files: Files, used: set[str]) -> list[str]:
    """Text files of boxes beside those that pictures have."""
    folders = {posixpath.dirname(name) for name in used if name}
    return [
        name
        for name in files.named(".txt")
        if name not in used
        and posixpath.basename(name).lower() not in LISTS
        and (posixpath.dirname(name) in folders or "labels" in name.split("/")[:-1])
        and any(_box(line, []) for line in _lines(files, name) or ())
    ]


def _description(files: Files) -> dict[str, Any]:
    """What a YAML file says of the data, with the folder it lies in as ``here``; empty where none names classes.

    Raises:
        InputError: a file that seems to name them cannot be read.
    """
    for name in sorted(files.named(*DESCRIPTIONS), key=lambda name: (name.count("/"), name)):
        content = _yaml(files, name)
        if "names" in content and (content.keys() & _KEYS.keys() or "nc" in content):
            return {**content, "here": posixpath.dirname(name)}
    return {}


def _yaml(files: Files, name: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    data = files.data(name)
    if b"names" not in data.replace(b"\0", b""):  # not in UTF-16 either
        return {}
    if len(data) > MOST_YAML:
        raise InputError(files.called(name), f"is larger than {MOST_YAML:,} bytes.", found=f"{len(data):,} bytes")
    text = files.text(name)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        said = f"{getattr(error, 'problem', '') or error}"[:200] + (f", line {mark.line + 1}" if mark else "")
        fix = "names: [first, second]"
        raise InputError(files.called(name), "is no YAML that can be read.", found=said, fix=fix) from None
    return content if isinstance(content, dict) else {}


def _names(files: Files, described: dict[str, Any]) -> list[str]:
    """Names of the classes, by number; a number between that has none has an empty one."""
    names = described.get("names")
    if isinstance(names, list):
        return [str(name).strip() for name in names]
    if isinstance(names, dict) and all(isinstance(place, int) and 0 <= place < MOST_CLASSES for place in names):
        return [str(names.get(place, "")).strip() for place in range(max(names, default=-1) + 1)]
    for wanted in LISTS:
        for name in files.entries:
            if posixpath.basename(name).lower() == wanted:
                # A line's number is its class's, so that an empty one counts but at the end.
                return [line.strip() for line in files.text(name).rstrip().splitlines()]
    return []


def _splits(files: Files, described: dict[str, Any]) -> dict[str, str]:
    """Picture -> split, by the folders and lists that the description names; empty where it names none that is there.

    Raises:
        InputError: a folder that it names for a split holds no picture.
    """
    here, root = described.get("here", ""), str(described.get("path", "") or "")
    places: dict[str, str] = {}
    named = {_KEYS[key]: value for key, value in described.items() if key in _KEYS and value}
    for split in reversed(SPLITS):  # a picture that train names as well is held out
        value = named.get(split)
        for entry in value if isinstance(value, list) else [value] if isinstance(value, str) else ():
            for picture in _under(files, str(entry), (here, posixpath.join(here, root), "")):
                places.setdefault(picture, split)
    if named and not places:
        raise InputError(
            files.root,
            "no picture lies where the description of the data says.",
            found=", ".join(f"{split}: {value}" for split, value in named.items()),
            fix="correct train, val and test in the .yaml file",
        )
    return places


def _under(files: Files, entry: str, folders: Sequence[str]) -> list[str]:
    """Pictures of a folder, or of a list of pictures, by its path from one of the folders, or from where it begins."""
    plain = entry.replace("\\", "/")
    shorter = plain
    while shorter.startswith(("../", "./")):  # exporters count from another folder than the file's
        shorter = shorter.partition("/")[2]
    for path in dict.fromkeys(
        posixpath.normpath(posixpath.join(folder, end)) for end in (plain, shorter) for folder in folders
    ):
        if path in files.entries and path.lower().endswith(".txt"):
            beside = posixpath.dirname(path)
            listed = (files.find(line, beside) for line in listed_names(files.text(path)))
            return [picture for picture in listed if picture]
        below = "" if path == "." else f"{path}/"
        if found := [name for name in files.named(*IMAGES) if name.startswith(below)]:
            return found
    return []
