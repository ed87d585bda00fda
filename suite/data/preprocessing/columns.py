"""Column checks of tasks: required columns are present; empty or unreadable records are dropped and counted."""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data import written
from suite.data.class_names import MISSING, class_names
from suite.data.notes import listed, told
from suite.data.preprocessing.image import DARK, MOST_CHANNELS, examine
from suite.data.preprocessing.text import text_faults
from suite.data.reading import beside, file_kind
from suite.data.recordings import Piece, timing
from suite.data.sources.memory import NAMED, WithTexts, cleaned, evenly_spaced
from suite.errors import InputError, closest

LOOKED_AT = 1000
"""Records by which it is judged what a column holds."""


def origin(data: Data) -> str:
    """How an error names where records come from: the file, the folder or the dataset."""
    path = getattr(data, "path", "")
    return Path(path).name if path else getattr(data, "name", "") or "the data"


def require(source: Source, fields: Mapping[str, str], where: str) -> None:
    """Every column named by ``fields`` (task field -> column) is in the source.

    Raises:
        InputError: one is not; the fix is the usual name, the nearest, or the likeliest by what the columns hold; or
            names for the columns, where the first line is a record.
    """
    known = list(source.schema)
    for field, name in fields.items():
        if name not in known:
            if is_csv(where) and _begins_with_a_record(source):
                fix = f"--task.data.header {' '.join(map(shlex.quote, _header(known, fields)))}"
            else:
                others = [column for column in known if column not in fields.values()]
                near = field if field in known else closest(name, known) or _likeliest(source, field, others)
                fix = f"--task.{field} {shlex.quote(near)}" if near else f"rename a column: {name}"
            problem = f'column "{name}" is not in {where}.'
            raise InputError(f"field task.{field}", problem, found=", ".join(known), fix=fix)


def is_csv(name: str) -> bool:
    """Whether a file, by its name, is one whose first line may hold the names of its columns, or not."""
    return name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".txt"))


def _sample(source: Source) -> dict[str, list[str]]:
    """The first records as texts."""
    columns = source[np.arange(min(len(source), LOOKED_AT))]
    return {name: [str(value) for value in values if value is not None] for name, values in columns.items()}


def _begins_with_a_record(source: Source) -> bool:
    """Whether the names of the columns are values: numbers, or the same as values of their columns."""
    values = _sample(source)
    return written.looks_like_data(source.schema) or any(name in column for name, column in values.items())


def _header(record: Sequence[str], fields: Mapping[str, str]) -> list[str]:
    """Names of the columns of a file whose first line is a record: texts are the longest of its values, a label is the
    last of the others."""
    names = [f"column{place}" for place in range(1, len(record) + 1)]
    texts = [column for field, column in fields.items() if field != "label"]
    longest = sorted(range(len(record)), key=lambda place: -len(record[place]))
    for place, column in zip(sorted(longest[: len(texts)]), texts, strict=False):
        names[place] = column
    if "label" in fields and (free := sorted(longest[len(texts) :])):
        names[free[-1]] = fields["label"]
    return names


def _likeliest(source: Source, field: str, columns: Sequence[str]) -> str:
    """The column that a field of a task is likely to mean: of classes for a label, of the longest texts otherwise."""
    values = _sample(source)
    if field == "label":
        distinct = {name: len(set(values[name])) for name in columns}
        classes = [name for name in columns if 1 < distinct[name] <= max(2, len(values[name]) // 2)]
        return min(classes, key=distinct.__getitem__, default="")
    kind = field if field in ("image", "audio") else "text"
    if paths := [name for name in columns if kind == file_kind(values[name])]:
        return paths[0]
    first = source[np.arange(min(len(source), 1))]
    lists = {name for name in columns if field != "target" and any(isinstance(value, list) for value in first[name])}
    texts = {name: sum(map(len, values[name])) for name in columns if source.schema[name] == kind and name not in lists}
    if field in ("source_text", "target_text"):  # pairs stand in this order
        return next(iter(texts if field == "source_text" else reversed(texts)), "")
    return max(texts, key=texts.__getitem__, default="")


def without_empty_texts(source: Source, name: str) -> Source:
    """The records whose text column holds a text; the others are dropped, counted and named."""
    faults = text_faults(source[np.arange(len(source))][name])
    return some_left(cleaned(source, faults), name, "no record has a text.")


def without_empty_pairs(source: Source, names: tuple[str, str]) -> Source:
    """The records whose texts both hold something; the others are dropped, and counted by the first that doesn't."""
    columns = source[np.arange(len(source))]
    faults = {f"{reason} {name}": fault for name in names for reason, fault in text_faults(columns[name]).items()}
    return some_left(cleaned(source, faults), " and ".join(names), "no record has both texts.")


def without_broken_images(source: Source, name: str, background: str = "", channels: int = 0, white: int = 0) -> Source:
    """The records whose image can be decoded; the others are dropped, counted and named.

    Adds a note of pictures whose transparency is laid on ``background``, of animations, of which the first frame is
    taken, and of pictures of 16 bits and of printing colours, which become 8 bits and red, green and blue.

    Args:
        source: with a column of images.
        name: of that column.
        background: see `suite.data.preprocessing.image.decode`.
        channels: of the model; with 4, transparency stays.
        white: value of white in pictures of 16 bits; 0: the largest of 16 bits.
    """
    first = source[np.arange(min(1, len(source)))][name]
    pixels = isinstance(first, np.ndarray) and first.dtype == np.uint8
    if pixels and first.shape[-1] != MOST_CHANNELS:
        return source  # arrays without transparency need no look
    faults: dict[str, np.ndarray] = {}
    traits: dict[str, list[int]] = {}
    for start in range(0, len(source), 256):
        for place, value in enumerate(source.column(name, np.arange(start, min(start + 256, len(source)))), start):
            fault, found = examine(value)
            if fault:
                faults.setdefault(fault, np.zeros(len(source), bool))[place] = True
            for trait in found:
                traits.setdefault(trait, []).append(place)
    named = file_names(source, name)
    notes = [
        f"{sentence}: {listed(named(np.array(places[:NAMED])), len(places))}"
        for trait, places in traits.items()
        if (sentence := _handled(trait, len(places), background, channels, white))
    ]
    return some_left(cleaned(source, faults, named, notes), name, "no image can be decoded.")


def with_files(source: Source, name: str, data: Data) -> Source:
    """The records, with the paths of a column that are relative to the table read as such.

    A path that exists where the command runs is left alone, and one that exists nowhere is left for an error to name.
    """
    folder = Path(getattr(data, "path", "") or ".")
    folder = folder if folder.is_dir() else folder.parent
    if source.schema.get(name) != "text" or folder == Path("."):
        return source
    paths = source.column(name, np.arange(len(source)))
    located = [beside(path, folder) for path in paths]
    return source if located == list(paths) else WithTexts(source, name, located)


def file_names(source: Source, column: str) -> Callable[[np.ndarray], list[str]]:
    """Places (b,) -> what the files of these records are called, as the data has them."""

    def named(places: np.ndarray) -> list[str]:
        own = () if "file" in source.schema else (str,)
        values = source.column(column, places)
        names = source.record_names(places)
        return [
            str(value) if isinstance(value, (Piece, *own)) else name for value, name in zip(values, names, strict=True)
        ]

    return named


def _handled(trait: str, count: int, background: str, channels: int, white: int) -> str:
    """What becomes of so many pictures of a trait; empty where nothing is lost."""
    if (trait == "transparent" and channels == MOST_CHANNELS) or (trait == "dark" and white):
        return ""
    laid = f"laid on {background} (--task.background)" if background else "dropped: what lies beneath is seen"
    one, rest = {
        "transparent": ("picture", f" with transparency, {laid}"),
        "animated": ("animation", ", of which the first frame is taken"),
        "pages": ("file", " of several pages, of which the first is taken"),
        "16 bits": ("picture", f" of 16 bits a channel, {f'white at {white:,}, ' if white else ''}read as 8 bits"),
        "dark": (
            "picture",
            f" of 16 bits a channel with no value above {DARK - 1:,}, read as nearly black; where a "
            f"camera of 12 bits wrote grey ones: --task.statistics.white {DARK - 1}",
        ),
        "CMYK": ("picture", " of printing colours (CMYK), read as red, green and blue"),
    }[trait]
    return f"{count:,} {one}{'' if count == 1 else 's'}{rest}"


def some_left(source: Source, name: str, problem: str) -> Source:
    """The source itself.

    Raises:
        InputError: it holds no record; says what was dropped.
    """
    if not len(source):
        reasons = "; ".join(told(source.dropped, source.dropped_names))
        raise InputError(f"column {name}", problem, found=reasons, fix="check the data, or name another column")
    return source


def without_missing_labels(source: Source, name: str) -> Source:
    """The records whose label is not missing; the others are dropped and counted. ``None`` and ``NA`` are labels where
    they stand as texts."""
    if source.schema.get(name) not in ("text", "float"):  # integers cannot be missing
        return source
    missing = np.array([label == MISSING for label in class_names(source.column(name, np.arange(len(source))))], bool)
    return some_left(cleaned(source, {"no label": missing}), name, "no record has a label.")


def unread_columns(source: Source, used: Collection[str], data: Data) -> list[str]:
    """A line on columns that no model is given, and one on each that holds texts as the one that is read does.

    Args:
        source: the training split.
        used: columns that are read.
        data: where they come from; a column that it names splits by is read, too.
    """
    own = {"file", getattr(data, "split", "")}
    if "audio" in source.schema.values():  # of a manifest: which split, and which piece of the recording
        numbers = [name for name, kind in source.schema.items() if kind in ("int", "float")]
        own |= {"split", "offset", "duration", *timing(source.schema, numbers).names}
    unread = {name: kind for name, kind in source.schema.items() if name not in used and name not in own}
    if not unread:
        return []
    lines = [f"columns that are not read: {', '.join(unread)}"]
    rows = evenly_spaced(source, LOOKED_AT)
    read = next(
        (name for name in used if source.schema.get(name) == "text" and _is_prose(source.column(name, rows))), ""
    )
    for name, kind in unread.items():
        if read and kind == "text" and _is_prose(source.column(name, rows)):
            lines.append(f'column "{name}" holds texts as "{read}" does, and is not read: one column of texts is')
    return lines


def _is_prose(values: Any) -> bool:
    """Whether most values are texts of three words or more, hardly any of them the same."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    several = sum(len(text.split()) >= 3 for text in texts)
    return bool(texts) and several > len(texts) / 2 and len(set(texts)) > len(texts) / 2
