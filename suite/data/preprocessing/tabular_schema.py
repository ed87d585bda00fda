"""Column kinds of a table, judged by type and number of distinct values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from suite.contracts.data import Source
from suite.data.preprocessing import dates
from suite.data.preprocessing.image import is_readable as is_image
from suite.data.preprocessing.tabular_order import (
    COMPLETE,
    REPEATED,
    SELDOM,
    as_target,
    is_complete,
    measures,
    names_things,
    order,
)
from suite.data.preprocessing.tabular_values import items, texts
from suite.data.reading import file_kind
from suite.data.sources.memory import evenly_spaced

SAMPLE = 20_000
"""Records that the kinds of columns are judged by, evenly spaced."""
WIDE_SAMPLE = 200_000
"""Records that whole numbers are judged by which are rarely repeated in the first sample: identifiers of a long log
are repeated in more of it."""
FEW = 16
"""Integers with at most so many different values are categories."""
LOOKED_AT = 1000
"""Values by which dates and pictures are told."""

Kind = Literal["dense", "categorical", "both", "list", "date", "text", "image", "audio", "ignored"]
"""``"both"``: a number and a category, where neither is plain."""
MEDIA: tuple[Kind, ...] = ("text", "image", "audio")
"""Kinds that a part of the model of their own reads."""
WORDS = 2.0
"""Words on average from which on a column of texts that hardly repeat is read, and no identifier."""
PROSE = 8.0
"""Words on average from which on texts that repeat are texts all the same, and no categories."""


@dataclass(frozen=True)
class Guess:
    """What a column is taken for.

    Attributes:
        name: of the column.
        kind: what it is.
        why: what speaks for that, for a person to read.
    """

    name: str
    kind: Kind
    why: str


def sample(source: Source) -> dict[str, Any]:
    """At most ``SAMPLE`` evenly spaced records."""
    return source[evenly_spaced(source, SAMPLE)]


def guess(
    source: Source, skip: Sequence[str], stated: dict[str, Kind], separator: str, infer: bool, all_kinds: bool = False
) -> list[Guess]:
    """What each column but those of ``skip`` is; ``stated`` (column -> kind) needs no guess.

    Args:
        source: the training split.
        skip: the label, in whose terms an order of numbers is looked for, and what else says nothing.
        stated: what the user said.
        separator: between the items of a list.
        infer: judge the other columns; otherwise they are ignored.
        all_kinds: tell dates, texts, pictures and recordings.
    """
    columns = sample(source)
    label = next((name for name in skip if name in source.schema), "")
    target = as_target(columns[label]) if label else None
    wide: np.ndarray | None = None  # places of more records, and the target there
    wide_target = None
    guesses = []
    for name, kind in source.schema.items():
        if name in skip:
            continue
        if name in stated:
            guesses.append(Guess(name, stated[name], "as stated"))
        elif not infer:
            guesses.append(Guess(name, "ignored", "not named"))
        else:
            medium = _judge_media(kind, columns[name], separator) if all_kinds else None
            if medium is None and len(source) > SAMPLE and _are_rarely_repeated(kind, columns[name]):
                if wide is None:
                    wide = evenly_spaced(source, WIDE_SAMPLE)
                    wide_target = as_target(source.column(label, wide)) if label else None
                judged = _judge(name, kind, source.column(name, wide), separator, wide_target, len(source))
            else:
                judged = medium or _judge(name, kind, columns[name], separator, target, len(source))
            guesses.append(Guess(name, *judged))
    return guesses


def _are_rarely_repeated(kind: str, values: Any) -> bool:
    """Whether a column holds whole numbers that are repeated too seldom to see whether the label knows their order."""
    if kind in ("text", "image", "audio", "class"):
        return False
    array = np.asarray(values, np.float64).reshape(len(values), -1)[:, 0]
    array = array[np.isfinite(array)]
    return len(array) < REPEATED * len(np.unique(array)) and np.array_equal(array, np.rint(array))


def _judge_media(kind: str, values: Any, separator: str) -> tuple[Kind, str] | None:
    """What a column of dates, texts, pictures or recordings is; None of any other."""
    if kind in ("image", "audio"):
        return ("image", "pictures") if kind == "image" else ("audio", "recordings")
    if kind != "text" or any(isinstance(value, list | tuple) for value in values):
        return None
    there = [value for value in values if value is not None and value == value]
    if any(isinstance(value, bytes) for value in there):
        return ("image", "pictures, as bytes") if all(map(is_image, there[:LOOKED_AT])) else None
    held = file_kind(there)
    if held:
        return ("image", "paths of pictures") if held == "image" else ("audio", "paths of recordings")
    form, other = dates.judged(there[:LOOKED_AT])
    if form:
        doubt = (
            f"; they could be {other} as well: --task.fields.categorical, or write them as 2024-05-31" if other else ""
        )
        return "date", f"dates, {'ISO 8601' if form == dates.ISO else form}{doubt}"
    written = [str(value) for value in there]
    words = sum(len(text.split()) for text in written) / max(len(written), 1)
    distinct = len(set(written))
    if words >= PROSE or (words >= WORDS and distinct > 0.5 * len(written) and not _are_lists(written, separator)):
        return "text", f"{distinct:,} different texts in {len(written):,} records, {words:.0f} words on average"
    return None


def _judge(
    name: str, kind: str, values: Any, separator: str, target: np.ndarray | None, records: int
) -> tuple[Kind, str]:
    if kind == "image":
        return "ignored", "images"
    if kind == "class":
        return "categorical", "classes"
    if kind == "text":
        return _judge_texts(values, separator)
    array = np.asarray(values, np.float64).reshape(len(values), -1)[:, 0]
    finite = np.isfinite(array)
    array = array[finite]
    distinct = len(np.unique(array))
    if distinct < 2:
        return "ignored", "always the same value"
    if not np.array_equal(array, np.rint(array)):
        return "dense", "fractions"
    return _judge_integers(name, array, distinct, None if target is None else target[finite], records)


def _judge_integers(
    name: str, values: np.ndarray, distinct: int, target: np.ndarray | None, records: int
) -> tuple[Kind, str]:
    """Whole numbers: categories by their name, or where they run without gaps and the label knows no order of them."""
    said, named, rows = f"{distinct:,} different integers", names_things(name), len(values)
    if _nearly_unique(distinct, rows):
        if named:
            return "ignored", f"{distinct:,} different numbers in {rows:,} records: an identifier"
        if distinct == rows and float(np.ptp(values)) < records / COMPLETE:
            return "ignored", f"{distinct:,} different numbers in {rows:,} records: numbers of rows"
        return "dense", said
    if named or distinct <= FEW:
        return "categorical", said + (", by its name" if distinct > FEW else "")
    if rows < REPEATED * distinct:
        # Of few records a value the order is seen less sharply: a number it stays, and a category beside it.
        if target is not None and rows >= SELDOM * distinct and order(values, target) == "unordered":
            return "both", f"{said}; neighbouring values have unrelated labels"
        return "dense", said
    complete = is_complete(values, distinct)
    if target is None:
        return ("both", f"{said} without gaps, like identifiers") if complete else ("dense", said)
    relation = order(values, target)
    if relation == "ordered":
        return "dense", f"{said}; neighbouring values have similar labels"
    if relation == "unordered":
        return (
            "categorical" if complete else "both",
            f"{said}{' without gaps' if complete else ''}; neighbouring values have unrelated labels",
        )
    return ("both", f"{said} without gaps, like identifiers") if complete and not measures(name) else ("dense", said)


def _judge_texts(values: Any, separator: str) -> tuple[Kind, str]:
    if any(isinstance(value, list | tuple) for value in values):
        return "list", "lists"
    written = [value for value in texts(values, "text") if value is not None]
    distinct = len(set(written))
    if distinct < 2:
        return "ignored", "always the same value"
    if different := _are_lists(written, separator):
        return "list", f"items between {separator!r}, {different:,} different"
    if _nearly_unique(distinct, len(written)):
        return "ignored", f"{distinct:,} different texts in {len(written):,} records: an identifier or free text"
    return "categorical", f"{distinct:,} different texts in {len(written):,} records"


def _are_lists(written: Sequence[str], separator: str) -> int:
    """How many different items texts hold that look like lists of them; 0 where they don't."""
    several = [row for row in items(written, separator) if len(row) > 1]
    repeated = Counter(item for row in several for item in row)
    return len(repeated) if len(several) >= 0.05 * len(written) and sum(repeated.values()) >= 2 * len(repeated) else 0


def _nearly_unique(distinct: int, count: int) -> bool:
    return count >= 100 and distinct > 0.9 * count


def render(guesses: Sequence[Guess], label: str) -> str:
    """The guesses as text for a terminal."""
    width = max((len(g.name) for g in guesses), default=0)
    how = "task.fields.dense, .categorical, .lists, .ignored and the like change them"
    lines = [f"columns, to predict {label} from ({how}):"]
    return "\n".join(lines + [f"  {g.name:{width}}  {g.kind:11}  {g.why}" for g in guesses])
