"""Masks in folders beside those of pictures: as numbers, by a palette, or by colours that a file names."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from suite.data.preprocessing.image import dimensions, stored_values
from suite.data.preprocessing.masks import IGNORED
from suite.data.reading import IMAGES
from suite.data.sources.annotated_files import Files, Masked, listed_names
from suite.data.sources.memory import LeftOut
from suite.data.sources.split_names import split_of
from suite.errors import InputError

MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")
"""Extensions of masks: of files that keep numbers as they are."""
CLASS_FILES = ("classes.txt", "labels.txt", "labelmap.txt", "classes.csv", "class_dict.csv")
"""Files of classes, the first that is there."""
LOOKED, FEW = 3, 64
"""Masks that are looked at, and most numbers or colours of one, where nothing says that files are masks."""
_WORDS = r"masks?|labels?|annot(?:ation)?s?|ground_?truths?|gt|targets?|segm?(?:entation)?s?(?:class|masks?)?"
_FOLDER = re.compile(rf"(?:^|.*[ _-]|[a-z]*?)(?:{_WORDS})(?:$|[ _-].*|png|raw|aug)", re.I)
_ENDING = re.compile(rf"[ _-](?:{_WORDS}|label_?ids|l)$", re.I)
_LISTS = "ImageSets/Segmentation/"


def is_mask(name: str) -> bool:
    """Whether a file is a mask, by the folder that it lies in, or the end of its own name."""
    *above, base = name.split("/")
    stem, extension = posixpath.splitext(base)
    return extension.lower() in MASKS and (any(map(_FOLDER.fullmatch, above)) or bool(_ENDING.search(stem)))


def are_masks(files: Files) -> bool:
    """Whether there are masks of most pictures: files beside those of pictures of the same names, as large, and of few
    numbers or colours."""
    pairs = list(_paired(files, {}))
    pictures = len(files.named(*IMAGES)) - len(pairs)
    if not pairs or 2 * len(pairs) < pictures:
        return False
    return all(_is_mask_of(files, *pair[1:]) for pair in pairs[:LOOKED])


def _is_mask_of(files: Files, picture: str, mask: str) -> bool:
    codes = _codes(files, mask)
    try:
        return codes is not None and codes.shape == dimensions(files.entries[picture]) and len(np.unique(codes)) <= FEW
    except InputError:
        return False


def _split_in(name: str) -> str:
    """The split that a folder of a path names, with or without what the folder holds: ``train``, ``train_masks``."""
    for folder in reversed(name.split("/")[:-1]):
        plain = re.sub(rf"[ _-]?(?:{_WORDS})$", "", folder, flags=re.I)
        if split := split_of(folder) or (split_of(plain) if plain else ""):
            return split
    return ""


class Classes(NamedTuple):
    """Names of the classes, and the code of each: a number, or `COLOUR` and a colour."""

    names: list[str]
    codes: list[int]


COLOUR = 1 << 24
"""Added to red << 16, green << 8 and blue, where masks are of colours."""


def read_mask_folders(
    files: Files, class_file: str, ignore: int, left: dict[str, LeftOut]
) -> tuple[list[str], Iterator[Masked], list[str]]:
    """(names of the classes, pictures with masks, what was guessed).

    Args:
        files: of the folder.
        class_file: name of the file of the classes; empty: looked for.
        ignore: number of pixels of no class.
        left: split -> what is left out, which grows.

    Raises:
        InputError: the file of classes is not there or cannot be read, or masks are of more classes than 255.
    """
    pairs, pixels = list(_paired(files, left)), Counter[int]()
    for _, _, mask in pairs:
        codes = _codes(files, mask)
        if codes is not None:
            numbers, counts = np.unique(codes, return_counts=True)
            pixels.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    stated = _class_file(files, class_file)
    if stated:
        classes, note = _stated(files, stated, {*pixels} - {ignore}), f"classes by {stated}"
        if {*pixels} == {0, IGNORED} and classes.codes == [0, 1]:
            classes = Classes(classes.names, [0, IGNORED])
            note += f"; masks of 0 and 255 alone: taken for {' and '.join(classes.names)}"
    else:
        classes, note = _guessed(files, pixels, ignore)
    table = {code: number for number, code in enumerate(classes.codes)}
    notes = [note]
    if ignore in pixels and ignore not in table:
        share = pixels[ignore] / pixels.total()
        notes.append(
            f"{share:.1%} of the pixels of masks are {ignore}, and are ignored: --task.data.ignore -1 reads them"
        )
    unknown = {code: count for code, count in pixels.items() if code not in table and code != ignore}
    if unknown:
        shown = ", ".join(map(_called, sorted(unknown)[:5])) + (", ..." if len(unknown) > 5 else "")
        notes.append(f"{sum(unknown.values()):,} pixels of masks are of no class, and are ignored: {shown}")
    return classes.names, _masked(files, pairs, table, left), notes


def _masked(
    files: Files, pairs: list[tuple[str, str, str]], table: dict[int, int], left: dict[str, LeftOut]
) -> Iterator[Masked]:
    known = np.array(sorted(table), np.int64)
    numbers = np.array([table[code] for code in known.tolist()], np.uint8)
    for split, picture, mask in pairs:
        codes = _codes(files, mask)
        if codes is None:
            left.setdefault(split, LeftOut()).add("broken mask", mask)
            continue
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        yield Masked(split, picture, np.where(known[places] == codes, numbers[places], np.uint8(IGNORED)), mask)


def _codes(files: Files, mask: str) -> np.ndarray | None:
    """The codes of a mask, int64 (h, w); None where it cannot be read. A grey pixel among colours has its number."""
    try:
        values = stored_values(files.entries[mask]).astype(np.int64)
    except InputError:
        return None
    if values.ndim == 2:
        return values
    red, green, blue = np.moveaxis(values, -1, 0)
    return np.where((red == green) & (green == blue), red, _coded(red, green, blue))


def _coded(red: Any, green: Any, blue: Any) -> Any:
    return COLOUR + (red << 16) + (green << 8) + blue


def _called(code: int) -> str:
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def _paired(files: Files, left: dict[str, LeftOut]) -> Iterator[tuple[str, str, str]]:
    """(split, picture, mask) of each mask that has a picture."""
    masks = [name for name in files.named(*MASKS) if is_mask(name)]
    taken = set(masks)
    pictures: dict[str, list[str]] = defaultdict(list)
    for name in files.named(*IMAGES):
        if name not in taken:
            pictures[posixpath.splitext(posixpath.basename(name))[0]].append(name)
    lists = {
        stem: split_of(posixpath.basename(name).partition(".")[0])
        for name in files.entries
        if _LISTS in name and name.endswith(".txt") and split_of(posixpath.basename(name).partition(".")[0])
        for stem in listed_names(files.text(name))
    }
    used = set()
    for mask in masks:
        stem = posixpath.splitext(posixpath.basename(mask))[0]
        split = lists.get(stem, "") or _split_in(mask)
        near = pictures.get(stem) or pictures.get(_ENDING.sub("", stem)) or []
        if len(near) > 1:
            near = [name for name in near if _split_in(name) == split]
        if len(near) != 1:
            reason = "mask of several pictures" if near else "mask without a picture"
            left.setdefault(split, LeftOut()).add(reason, mask)
            continue
        used.add(near[0])
        yield split or _split_in(near[0]), near[0], mask
    for name in sorted(name for names in pictures.values() for name in names if name not in used):
        left.setdefault(_split_in(name), LeftOut()).add("picture without a mask", name)


def _class_file(files: Files, stated: str) -> str:
    """Name of the file of classes; empty where there is none."""
    if stated and stated not in files.entries:
        known = ", ".join(files.named(".txt", ".csv")) or "no .txt and no .csv"
        raise InputError("field task.data.classes", "is no file of the folder.", found=f"{stated}; there are {known}")
    there = {posixpath.basename(name).lower(): name for name in sorted(files.entries, reverse=True)}
    return stated or next((there[name] for name in CLASS_FILES if name in there), "")


def _stated(files: Files, name: str, present: set[int]) -> Classes:
    """Classes a line: ``NAME``, ``NAME RED GREEN BLUE`` with blanks or commas, or CVAT's ``NAME:RED,GREEN,BLUE::``."""
    names, colours = [], []
    for line in listed_names(files.text(name)):
        parts = re.fullmatch(r"(.*?)[\s,;:]+(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[:,;]*", line)
        colour = [int(part) for part in parts.groups()[1:]] if parts else []
        if line.startswith("#") or (not parts and re.fullmatch(r"name[\s,;]+r[\s,;]+g[\s,;]+b", line, re.I)):
            continue
        names.append((parts[1] if parts else line).strip())
        if colour and max(colour) <= 255:
            colours.append(colour[0] if len({*colour}) == 1 else _coded(*colour))
    where = files.called(name)
    if not names or len(names) > IGNORED or len({*names}) < len(names):
        problem = f"must name 1 to {IGNORED} classes, a line each, none twice."
        raise InputError(where, problem, found=", ".join(names[:8]) or "no line")
    numbers = range(len(names))
    if max(present, default=0) >= COLOUR and len(colours) != len(names):
        problem = "must give the colour of each class, as masks are of colours."
        raise InputError(where, problem, found=f"{len(colours)} of {len(names)}", fix=f"{names[0]} 0 0 0")
    # Black and white alone may be numbers as well as colours.
    coloured = len(colours) == len(names) and not present <= {*numbers} and present & {*colours}
    return Classes(names, colours if coloured else list(numbers))


def _guessed(files: Files, pixels: Counter[int], ignore: int) -> tuple[Classes, str]:
    """Classes of masks alone, and what is to be said of them."""
    if {*pixels} in ({0, IGNORED}, {0, 1}):
        most = max(pixels)
        return Classes(["background", "foreground"], [0, most]), (
            f"masks of 0 and {most} alone: taken for background and foreground "
            "(--task.data.classes names a file of names)"
        )
    codes = sorted(code for code in pixels if code != ignore)
    if len(codes) > IGNORED:
        problem = f"masks are of more than {IGNORED} colours or numbers: they are not of classes, or were scaled."
        raise InputError(
            files.root, problem, found=f"{len(codes):,}", fix="masks of numbers of classes, or classes.txt"
        )
    if not codes:
        raise InputError(files.root, "masks hold no pixel of a class.", found=f"{len(pixels)} numbers")
    names = [_called(code) for code in codes]
    said = f"no file of classes ({', '.join(CLASS_FILES)}): they are called by their numbers or colours"
    return Classes(names, codes), said
