"""Column checks of tasks: required columns are present; empty or unreadable records are dropped and counted."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.class_names import MISSING, class_names
from suite.data.preprocessing.image import is_readable
from suite.data.preprocessing.text import clean_mask
from suite.data.sources.memory import Subset, take
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
        InputError: one is not; the fix is the usual name, or the nearest.
    """
    known = list(source.schema)
    for field, name in fields.items():
        if name not in known:
            near = field if field in known else closest(name, known) or next(iter(known), "NAME")
            raise InputError(
                f"field task.{field}",
                f'column "{name}" is not in {where}.',
                found=", ".join(known),
                fix=f"--task.{field} {near}",
            )


def without_empty_texts(source: Source, name: str) -> Source:
    """The records whose text column holds a text; the others are dropped and counted."""
    keep, reasons = clean_mask(source[np.arange(len(source))][name])
    if keep.all():
        return source
    dropped = {**source.dropped, **{reason: count for reason, count in reasons.items() if count}}
    return _some_left(Subset(source, np.flatnonzero(keep), dropped), name, "no record has a text.")


def without_empty_pairs(source: Source, names: tuple[str, str]) -> Source:
    """The records whose texts both hold something; the others are dropped, and counted by the first that doesn't."""
    columns, keep, dropped = source[np.arange(len(source))], np.ones(len(source), bool), dict(source.dropped)
    for name in names:
        places = np.flatnonzero(keep)
        usable, reasons = clean_mask(take(columns[name], places))
        keep[places[~usable]] = False
        dropped.update({f"{reason} {name}": count for reason, count in reasons.items() if count})
    if keep.all():
        return source
    return _some_left(Subset(source, np.flatnonzero(keep), dropped), " and ".join(names), "no record has both texts.")


def without_broken_images(source: Source, name: str) -> Source:
    """The records whose image can be decoded; the others are dropped and counted. Arrays need no look."""
    first = source[np.arange(min(1, len(source)))][name]
    if isinstance(first, np.ndarray) and first.dtype == np.uint8:
        return source
    chunks = (np.arange(i, min(i + 256, len(source))) for i in range(0, len(source), 256))
    readable = np.array([is_readable(value) for chunk in chunks for value in source[chunk][name]], bool)
    if readable.all():
        return source
    dropped = {**source.dropped, "broken image": int((~readable).sum())}
    return _some_left(Subset(source, np.flatnonzero(readable), dropped), name, "no image can be decoded.")


def _some_left(source: Source, name: str, problem: str) -> Source:
    if not len(source):
        reasons = ", ".join(f"{count} dropped: {reason}" for reason, count in source.dropped.items())
        raise InputError(f"column {name}", problem, found=reasons, fix="check the data, or name another column")
    return source


def without_missing_labels(source: Source, name: str) -> Source:
    """The records whose label is not missing; the others are dropped and counted. ``None`` and ``NA`` are labels where
    they stand as texts."""
    if source.schema.get(name) not in ("text", "float"):  # integers cannot be missing
        return source
    there = np.array([label != MISSING for label in class_names(source.column(name, np.arange(len(source))))], bool)
    if there.all():
        return source
    dropped = {**source.dropped, "no label": int((~there).sum())}
    return _some_left(Subset(source, np.flatnonzero(there), dropped), name, "no record has a label.")


def unread_columns(source: Source, used: Collection[str], data: Data) -> list[str]:
    """A line on columns that no model is given, and one on each that holds texts as the one that is read does.

    Args:
        source: the training split.
        used: columns that are read.
        data: where they come from; a column that it names splits by is read, too.
    """
    own = {"file", getattr(data, "split", "")}
    unread = {name: kind for name, kind in source.schema.items() if name not in used and name not in own}
    if not unread:
        return []
    lines = [f"columns that are not read: {', '.join(unread)}"]
    rows = np.arange(min(len(source), LOOKED_AT)) * len(source) // max(min(len(source), LOOKED_AT), 1)
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
