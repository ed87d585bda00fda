"""Drawings of values that a model is given and answers with, by the name that their kind gives (`Kind.drawing`)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.kinds import input_kind, output_kind
from suite.contracts.signature import File, Input, Output
from suite.data.preprocessing.image import decode
from suite.errors import InputError
from suite.evaluation.artifacts import Image
from suite.reporting import pictures
from suite.reporting.blocks import Audio, Items, Marked, Shown
from suite.reporting.drawings.boxes import LETTERED, RIGHT, drawn_boxes
from suite.reporting.drawings.spans import parts

MOST_BYTES = 2 << 20
"""Bytes of the largest recording that a page carries."""
FIRST = 6
"""Numbers of a vector, and items of a list, that are shown."""
_SOUNDS = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}


@dataclass(frozen=True)
class Given:
    """One record as it was asked.

    Attributes:
        inputs: of the codec.
        record: value by column.
    """

    inputs: Sequence[Input]
    record: Mapping[str, Any]

    def first(self, drawing: str) -> Any:
        """The value of the first input that is drawn so; None where there is none."""
        names = [entry.name for entry in self.inputs if input_kind(entry.kind).drawing == drawing]
        return next((self.record[name] for name in names if name in self.record), None)


ValueDrawing = Callable[[Any, str, Given], Sequence[Shown]]
"""(value, its name, the record that was asked) -> what stands for it on the page."""
VALUES: dict[str, ValueDrawing] = {}
"""Name of a drawing -> what draws a value."""


def draws_value(name: str) -> Callable[[ValueDrawing], ValueDrawing]:
    """Register the decorated function as the drawing ``name``, for a kind of one's own to name it."""

    def register(drawing: ValueDrawing) -> ValueDrawing:
        VALUES[name] = drawing
        return drawing

    return register


def shown(signature: Input | Output, value: Any, given: Given) -> Sequence[Shown]:
    """What stands for a value of an input or an output; its text where its kind has no drawing or it can't be drawn."""
    kind = input_kind(signature.kind) if isinstance(signature, Input) else output_kind(signature.kind)
    if value is None or kind.drawing not in VALUES:
        return [short(value)]
    try:
        return VALUES[kind.drawing](value, signature.name, given)
    except InputError:  # such as an image in a format that isn't read here
        return [short(value)]


def short(value: Any, most: int = 300) -> str:
    """A value as a text of at most ``most`` characters."""
    if isinstance(value, File):
        return f"{value.media_type}, {len(value.data):,} bytes"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype} {'x'.join(map(str, value.shape))}"
    if isinstance(value, float | np.floating):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{name}: {short(item)}" for name, item in value.items())
    text = ", ".join(map(short, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


@draws_value("text")
def text(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """The value in words."""
    return [short(value)]


@draws_value("image")
def image(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """A picture, scaled down where it is large."""
    if isinstance(value, File) and not value.media_type.startswith("image/"):
        return [short(value)]
    pixels = decode(value.data if isinstance(value, File) else value)
    return [pictures.image(Image(pixels), name)]


@draws_value("audio")
def audio(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """A player, where the recording is a file and not too long to carry."""
    if isinstance(value, str | Path) and Path(value).is_file():
        value = Path(value).read_bytes()
    if isinstance(value, bytes):
        value = File(_SOUNDS.get(value[:4], "audio/mpeg"), value)
    if not isinstance(value, File) or not value.media_type.startswith("audio/") or len(value.data) > MOST_BYTES:
        return [short(value)]
    return [Audio(pictures.uri(value.media_type, value.data), name)]


@draws_value("ranking")
def ranking(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """Items in their order, with their scores."""
    rows = [(short(item.get("title", item["item"])), short(item["score"]) if "score" in item else "") for item in value]
    return [_items(rows)]


@draws_value("spans")
def spans(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """The text with its spans marked, and each span with its label."""
    said = given.first("text")
    whole = said if isinstance(said, str) else ""
    places = [(span["start"], span["end"], span["label"]) for span in value]
    text = [Marked(parts(whole, places, places))] if whole else []
    rows = [(short(span.get("text", whole[span["start"] : span["end"]])), _labelled(span)) for span in value]
    return [*text, _items(rows)]


@draws_value("segments")
def segments(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """What is said from when to when, in seconds; nothing where no times were asked for."""
    rows = [(short(part["text"] or "nothing was heard"), f"{part['start']:g} to {part['end']:g} s") for part in value]
    return [_items(rows)] if rows else ["no times were asked for"]


@draws_value("attributions")
def attributions(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """What adds most, and what speaks most against it."""
    falling = sorted(value, key=lambda part: -abs(part["attribution"]))
    return [_items([(short(part["unit"]), f"{part['attribution']:+.3g}") for part in falling])]


@draws_value("boxes")
def boxes(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """Boxes over the image that was asked, and what is in them."""
    rows = _items([(_labelled(box), ", ".join(f"{side:.0f}" for side in box["box"])) for box in value])
    asked = given.first("image")
    if asked is None:
        return [rows]
    usual = Counter(box["label"] for box in value).most_common(1)[0][0] if len(value) > LETTERED else None
    lettered = lambda box: "" if box["label"] == usual else _labelled(box)  # of very many, those that are rarer
    frames = [(tuple(box["box"]), lettered(box), RIGHT, False) for box in value]
    return [drawn_boxes(decode(asked), frames, f"{name}: {', '.join(map(_labelled, value)) or 'none'}"), rows]


@draws_value("mask")
def mask(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """The colours of a mask over the image that was asked; a mask without a palette, or of no image, by itself."""
    from PIL import Image as Pillow

    asked = given.first("image")
    if asked is None or not isinstance(value, File):
        return image(value, name, given)
    colours = decode(value.data, None, 4).astype(np.float32)
    pixels = decode(asked, None, 3)
    if pixels.shape[:2] != colours.shape[:2]:
        pixels = np.asarray(Pillow.fromarray(pixels).resize(colours.shape[1::-1]))
    weight = colours[..., 3:] / 255 / 2
    shown = np.rint(pixels * (1 - weight) + colours[..., :3] * weight).astype(np.uint8)
    return [pictures.image(Image(shown), name)]


@draws_value("names")
def names(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """Names one after the other."""
    items = value if isinstance(value, list | tuple) else [value]
    return [short(", ".join(map(str, items)) or "none")]


@draws_value("vector")
def vector(value: Any, name: str, given: Given) -> Sequence[Shown]:
    """How many numbers, their length, and the first of them."""
    numbers = np.asarray(value, np.float64)
    first = ", ".join(f"{number:.3g}" for number in numbers[:FIRST]) + (", …" if len(numbers) > FIRST else "")
    return [f"{len(numbers):,} numbers of length {np.linalg.norm(numbers):.4g}: {first}"]


def _items(rows: Sequence[tuple[str, str]]) -> Items:
    more = [(f"and {len(rows) - FIRST} more", "")] if len(rows) > FIRST else []
    return Items((*rows[:FIRST], *more))


def _labelled(part: Mapping[str, Any]) -> str:
    share = part.get("probability", part.get("score"))
    return part["label"] if share is None else f"{part['label']} {100 * share:.0f} %"
