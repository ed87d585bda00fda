"""Pictures with masks on disk: folders of pictures and masks, or COCO JSON with polygons or runs."""

import functools
import posixpath
import shlex
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.image import SIDEWAYS, dimensions_and_turn, untold, upright
from suite.data.preprocessing.masks import png
from suite.data.reading import existing, file_key
from suite.data.sources.annotated_files import Files, Masked
from suite.data.sources.coco import coco_files
from suite.data.sources.coco_masks import read_coco_masks
from suite.data.sources.mask_folders import MASKS, are_masks, is_mask, read_mask_folders
from suite.data.sources.memory import SPLITS, LeftOut, Memory, check_split
from suite.data.sources.splitting import held_out_fix, own_split, records_of
from suite.errors import InputError

Format = Literal["", "png", "coco"]
TITLES = {"png": "pictures and masks side by side", "coco": "COCO JSON"}
"""Formats, as a person calls them."""


@dataclass(frozen=True, kw_only=True)
class MaskFolder(Data):
    """Pictures with masks: a folder, an archive (.tar, .tar.gz, .tar.xz) or a COCO JSON file.

    The format is recognised, and told by ``notes``:

    - folders of pictures and of masks side by side, such as ``images/`` and ``masks/``, or masks beside their pictures
      as ``NAME_mask.png``. A mask is a PNG (BMP, TIFF, GIF) of numbers, of a palette, or of the colours that
      ``classes.txt`` gives. ``classes.txt`` has a class a line, ``NAME`` or ``NAME RED GREEN BLUE``; without it numbers
      name themselves. Masks of 0 and 255 alone, or of one bit, are of background and
      foreground, or of the two classes that the file names;
    - COCO JSON with polygons or runs. Pixels within none are background, and of areas that overlap the smaller is seen.

    Columns: ``image``, a path (bytes, from an archive); ``mask``, a PNG of the numbers of classes, 255 where pixels are
    of none; ``file``. Splits are those that folders, files or ``ImageSets/Segmentation`` name; else pictures are split
    by a hash of their name. Pictures without a mask, masks without a picture, and areas that cannot be read are left
    out, counted and named.
    """

    path: str
    """The folder, archive or file."""
    format: Format = ""
    """png or coco. Empty: recognised."""
    classes: str = ""
    """File of the classes, in the folder. Empty: classes.txt, labels.txt, labelmap.txt, classes.csv or class_dict.csv,
    where it is there."""
    ignore: int = 255
    """Number in masks of pixels that are of no class. -1: there is none."""
    background: str = "background"
    """What pixels outside of all areas are called, in COCO JSON."""
    validation: float = 0.1
    """Share held out for validation where the data names no such split."""
    test: float = 0.1
    """Share held out for test where the data names no splits."""
    seed: int = 0
    """Seeds what is held out, by a hash of the picture's name."""

    def open(self, split: str) -> Source:
        """Pictures of a split.

        Raises:
            InputError: no such path or split, no masks of a known format, or an empty split.
        """
        path = existing(self.path)
        check_split(split, self.path)
        loaded = _load(_Known(Files.of(path), self.background), self.format, self.classes, self.ignore)
        given = [name for name in SPLITS if name in loaded]
        stored = "train" if split == "validation" and split not in given else split
        source = loaded.get(stored) if given else loaded.get("")
        if source is None:
            source = Memory({"image": [], "mask": [], "file": []}, _SCHEMA)
        names = [posixpath.basename(name) for name in source.column("file", np.arange(len(source)))]
        part = lambda fractions: own_split(names, self.seed, fractions)
        return records_of(source, split, self, part, given, held_out_fix("pictures", split))


_SCHEMA = {"image": "image", "mask": "image", "file": "text"}


@dataclass(frozen=True)
class _Known:
    """Files, equal where nothing that is read of them changed, masks included."""

    files: Files
    background: str
    masks: tuple[Hashable, ...] = field(init=False)

    def __post_init__(self) -> None:
        masks = [value for name, value in self.files.entries.items() if is_mask(name) and isinstance(value, str)]
        object.__setattr__(self, "masks", tuple(file_key(value) for value in masks))


def holds_masks(path: Path) -> bool:
    """Whether a folder or an archive holds pictures and masks side by side.

    Raises:
        InputError: an archive that is damaged, or a folder that cannot be opened.
    """
    files = Files.of(path)
    return not files.one and are_masks(files)


@functools.lru_cache(maxsize=4)
def _load(known: _Known, stated: Format, classes: str, ignore: int) -> dict[str, Memory]:
    """Split -> its pictures; the split is empty where the data names none."""
    files = known.files
    coco = coco_files(files)
    there = {"png": not files.one and any(map(is_mask, files.named(*MASKS))), "coco": bool(coco)}
    present = [form for form, found in there.items() if found]
    if not present or (stated and stated not in present):
        endings = Counter(posixpath.splitext(name)[1].lower() or "no extension" for name in files.entries)
        seen = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(6)) or "no file"
        raise InputError(
            files.called(files.one) if files.one else files.root,
            f"holds no masks that can be read{f' as {TITLES[stated]}' if stated else ''}.",
            found=", ".join(TITLES[form] for form in present) or seen,
            fix=f"--task.data.format {shlex.quote(present[0])}"
            if present
            else f"pictures in {files.root}/images and their masks as PNG in {files.root}/masks, or COCO JSON with "
            "segmentation",
        )
    form = stated or present[0]
    left: dict[str, LeftOut] = {"": files.left}
    if form == "coco":
        names, read, notes = read_coco_masks(files, coco, known.background, left)
    else:
        names, read, notes = read_mask_folders(files, classes, ignore, left)
    others = [TITLES[other] for other in present if other != form and not stated]
    said = [f"masks read as {TITLES[form]}{f'; {others[0]} lies there as well (--task.data.format)' if others else ''}"]
    return _memories(files, names, read, [*said, *notes], left)


def _memories(
    files: Files, names: list[str], read: Iterable[Masked], notes: list[str], left: dict[str, LeftOut]
) -> dict[str, Memory]:
    columns: dict[str, dict[str, list[str | bytes]]] = {}
    seen: set[str] = set()
    turned = Counter[str]()
    for masked in _fitting(files, read, left, turned):
        if masked.picture in seen:
            left.setdefault(masked.split, LeftOut()).add("mask of a picture that has one", masked.where)
            continue
        seen.add(masked.picture)
        part = columns.setdefault(masked.split, {"image": [], "mask": [], "file": []})
        part["image"].append(files.entries[masked.picture])
        part["mask"].append(png(masked.mask))
        part["file"].append(masked.picture)
    given = {split for split in columns if split}
    if given and "" in columns:
        for name in columns.pop("")["file"]:
            left.setdefault("train", LeftOut()).add("picture of no split", str(name))
    if not columns or (given and "train" not in given):
        reasons = "; ".join(line for part in left.values() for line in part.lines())
        problem = "no picture is of train." if columns else "no picture of it has a mask."
        raise InputError(files.root, problem, found=", ".join(sorted(given)) or reasons or "no mask", fix=_FIX)
    notes += [f"{count:,} {what}" for what, count in turned.items()]
    return {split: _memory(part, names, notes, left, split) for split, part in columns.items()}


_FIX = "pictures in images/ and masks of the same names in masks/"


def _memory(
    part: dict[str, list[str | bytes]], names: list[str], notes: list[str], left: dict[str, LeftOut], split: str
) -> Memory:
    order = sorted(range(len(part["file"])), key=lambda place: (posixpath.basename(str(part["file"][place])), place))
    columns = {name: [values[place] for place in order] for name, values in part.items()}
    dropped = LeftOut()
    for each in dict.fromkeys(("", split)):
        for reason, count in left[each].counts.items() if each in left else ():
            first = left[each].names.get(reason, [])
            dropped.add(reason, count=count - len(first))
            for name in first:
                dropped.add(reason, name)
    return Memory(columns, _SCHEMA, {"mask": names}, dropped.counts, dropped.names, notes)


def _fitting(files: Files, read: Iterable[Masked], left: dict[str, LeftOut], turned: Counter[str]) -> Iterator[Masked]:
    """Those whose mask is as large as its picture, or as the file that the camera turned; ``turned`` counts these."""
    for masked in read:
        try:
            *size, turn = dimensions_and_turn(files.entries[masked.picture])
        except InputError:
            left.setdefault(masked.split, LeftOut()).add("broken image", masked.picture)
            continue
        shape = [*masked.mask.shape]
        if shape == size:
            if untold(turn, *size):
                turned["pictures that the camera turned, whose masks are taken as of the upright picture"] += 1
            yield masked
        elif turn in SIDEWAYS and shape == size[::-1]:
            turned["pictures that the camera turned, whose masks are turned with them"] += 1
            yield masked._replace(mask=upright(masked.mask, turn))
        else:
            left.setdefault(masked.split, LeftOut()).add("mask of another size than its picture", masked.where)
