"""Masks: which class each pixel of a picture is of, and the names of the classes.

A mask is a PNG of numbers, uint8 (h, w): that of a class, or `IGNORED`. Dims: b pictures of h x w pixels, c classes.
"""

import functools
import io
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.notes import listed
from suite.data.preprocessing.image import dimensions, stored_values
from suite.data.preprocessing.letterbox import placement
from suite.data.reading import changed, file_key
from suite.errors import InputError
from suite.runtime import json_files

IGNORED = 255
"""Pixels that are of no class: nothing is learnt or counted there."""
CHUNK = 256
"""Records read at a time."""
SHOWN = 20
"""Classes that a description counts."""


def mask_of(value: Any) -> np.ndarray:
    """The mask uint8 (h, w) that a record holds: a PNG of grey values or of a palette, its path, or such an array.

    Raises:
        InputError: it holds colours, or numbers above 255.
    """
    values = stored_values(value)
    name = str(value) if isinstance(value, str | Path) else "mask"
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(name, "holds colours, not numbers of classes", fix="a folder of pictures and masks as --data")
    if values.dtype != np.uint8 and values.max(initial=0) > IGNORED:
        raise InputError(name, f"holds numbers above {IGNORED}", found=str(values.max()))
    return values.astype(np.uint8)


def png(mask: np.ndarray, palette: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """A mask uint8 (h, w) as a PNG; with a palette, of which the first colour is transparent."""
    from PIL import Image

    image, file = Image.fromarray(mask), io.BytesIO()
    if palette:
        image.putpalette([part for colour in palette for part in colour])
        image.save(file, "PNG", transparency=0)
    else:
        image.save(file, "PNG")
    return file.getvalue()


def palette(count: int) -> list[tuple[int, int, int]]:
    """A colour for each class: black, then as far apart as numbers whose bits are spread over red, green and blue, as
    Pascal VOC's are."""
    spread = lambda number, part: sum(((number >> (3 * bit + part)) & 1) << (7 - bit) for bit in range(8))
    return [(spread(number, 0), spread(number, 1), spread(number, 2)) for number in range(count)]


def overlaid(pixels: np.ndarray, mask: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """A picture uint8 (h, w, c) beneath the colours of its mask, uint8 (h, w, 3); the first class and pixels of none
    stay as they are."""
    colours = np.array(palette(IGNORED + 1), np.float32)
    base = np.broadcast_to(pixels[..., :3], (*mask.shape, 3)).astype(np.float32)
    shown = ((mask > 0) & (mask < IGNORED))[..., None] * np.float32(weight)
    return np.rint(base * (1 - shown) + colours[mask] * shown).astype(np.uint8)


def letterboxed_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask on the canvas that its picture is letterboxed to, uint8 (h, w); around it nothing counts."""
    from PIL import Image

    scale_x, scale_y, left, top, width, height = placement((mask.shape[0], mask.shape[1]), size).tolist()
    wide, high, left, top = round(scale_x * width), round(scale_y * height), int(left), int(top)
    canvas = np.full(size, IGNORED, np.uint8)
    image = Image.fromarray(mask).resize((wide, high), Image.Resampling.NEAREST)
    canvas[top : top + high, left : left + wide] = np.asarray(image)
    return canvas


def stored_mask(canvas: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """A mask (h, w) on a canvas -> that of the picture in its own size, by `suite.data.preprocessing.letterbox`."""
    from PIL import Image

    scale_x, scale_y, left, top, width, height = placed.tolist()
    wide, high, left, top = round(scale_x * width), round(scale_y * height), int(left), int(top)
    part = Image.fromarray(np.ascontiguousarray(canvas[top : top + high, left : left + wide]))
    return np.asarray(part.resize((int(width), int(height)), Image.Resampling.NEAREST))


def mask_faults(source: Source, image: str, mask: str) -> dict[str, np.ndarray]:
    """Reason -> (n,) bool, the records whose mask cannot be read or is not as large as its picture."""
    faults: dict[str, np.ndarray] = {}
    for start in range(0, len(source), CHUNK):
        columns = source[np.arange(start, min(start + CHUNK, len(source)))]
        for place, (picture, value) in enumerate(zip(columns[image], columns[mask], strict=True), start):
            if reason := _fault(picture, value):
                faults.setdefault(reason, np.zeros(len(source), bool))[place] = True
    return faults


def _fault(picture: Any, value: Any) -> str:
    if not isinstance(value, bytes) or not isinstance(picture, str | bytes):
        return _looked_at(picture, value)
    return _fault_once(picture, file_key(picture) if isinstance(picture, str) else None, value)


@functools.lru_cache(maxsize=1 << 17)
def _fault_once(picture: str | bytes, state: Hashable, mask: bytes) -> str:
    """That of a mask that is decoded once: a split is opened several times before training begins."""
    return _looked_at(picture, mask)


def _looked_at(picture: Any, value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "no mask"
    try:
        sides = mask_of(value).shape
    except InputError as error:
        return f"mask that {error.problem}" if error.problem.startswith("holds") else "broken mask"
    try:
        return "" if dimensions(picture) == sides else "mask of another size than its picture"
    except InputError:
        return ""  # of a broken picture something else is said


@dataclass(frozen=True, kw_only=True)
class MaskLabels(Preprocessor):
    """The names of the classes of masks, in the order of their numbers, with the pixels of each in the training
    split."""

    suffix: ClassVar[str] = ".json"

    column: str = "mask"
    """Field of the task that names the column of masks."""

    @property
    def names(self) -> list[str]:
        """The c classes, in the order of the model's outputs."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def counts(self) -> list[int]:
        """Pixels of each class in the training split."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def outputs(self) -> list[str]:
        """The c classes."""
        return self.names

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``: those that the data states, else the numbers up to the largest one.

        Raises:
            InputError: no pixel is of a class.
        """
        counts = pixel_counts(source, column)
        if not counts.sum():
            raise InputError(
                f"column {column}", "no pixel of the training split is of a class.", found=f"{len(source):,} masks"
            )
        largest = int(np.flatnonzero(counts)[-1])
        names = list(source.classes.get(column, ())) or [str(number) for number in range(largest + 1)]
        if largest >= len(names):
            problem = f"a mask holds the number {largest}, and there are {len(names)} classes."
            raise InputError(f"column {column}", problem, found=", ".join(names), fix="name the class, or ignore it")
        content = {"names": names, "counts": counts[: len(names)].tolist()}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    def describe(self, source: Source, column: str) -> str:
        counts = pixel_counts(source, column)
        names = list(source.classes.get(column, ())) or [str(number) for number in range(IGNORED)]
        total = max(int(counts.sum()), 1)
        present = sorted(np.flatnonzero(counts).tolist(), key=lambda number: -counts[number])
        shown = ", ".join(
            f"{names[number] if number < len(names) else number:.40} {100 * counts[number] / total:.1f} %"
            for number in present[:SHOWN]
        )
        more = f", and {len(present) - SHOWN:,} more classes" if len(present) > SHOWN else ""
        return f"column {column}: pixels of {len(present)} classes: {shown}{more}"

    def sizes(self) -> dict[str, int]:
        """``outputs``: number of classes."""
        return {"outputs": len(self.names)}


def pixel_counts(source: Source, column: str) -> np.ndarray:
    """Pixels (255,) int64 of each number in the masks of clean records, without those that are ignored."""
    counts = np.zeros(IGNORED + 1, np.int64)
    for start in range(0, len(source), CHUNK):
        for value in source.column(column, np.arange(start, min(start + CHUNK, len(source)))):
            counts += np.bincount(mask_of(value).ravel(), minlength=IGNORED + 1)
    return counts[:IGNORED]


def mask_remarks(splits: Mapping[str, Source], column: str, labels: MaskLabels) -> list[str]:
    """Lines on classes of which a split has no pixel, and on numbers that are of no class of training."""
    lines = []
    for split, source in splits.items():
        counts = labels.counts if split == "train" else pixel_counts(source, column).tolist()
        absent = [name for name, count in zip(labels.names, counts, strict=False) if not count]
        if absent:
            lines.append(f"{split}: no pixel is of the class {listed(absent[:5], len(absent))}")
        if beyond := sum(counts[len(labels.names) :]):
            lines.append(f"{split}: {beyond:,} pixels are of classes that training does not have, and are ignored")
    return lines


@functools.lru_cache(maxsize=16)
def _stored(file: str, written: int) -> tuple[list[str], list[int]]:
    def build(content: Any) -> tuple[list[str], list[int]]:
        names = json_files.texts(content["names"])
        if not 1 <= len(names) <= IGNORED:
            raise json_files.Malformed(f"{len(names)} classes")
        return names, [int(count) for count in content["counts"]]

    return json_files.load(file, build)


def letterboxed_masks(values: Sequence[Any], size: tuple[int, int], classes: int) -> np.ndarray:
    """Masks uint8 (b, h, w) on the canvases of their pictures; numbers that are of no class become `IGNORED`.

    Raises:
        InputError: a value that is no mask.
    """
    rows = [letterboxed_mask(mask_of(value), size) for value in values]
    masks = np.stack(rows) if rows else np.zeros((0, *size), np.uint8)
    return np.where(masks < classes, masks, np.uint8(IGNORED))
