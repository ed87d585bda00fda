"""Column kinds of a table, judged by type and number of distinct values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from suite.contracts.data import Source
from suite.data.preprocessing.tabular_values import items, texts

SAMPLE = 20_000
"""Records that the kinds of columns are judged by, evenly spaced."""
FEW = 16
"""Integers with at most so many different values are categories."""
_NAMES = ("id", "code", "zip", "hash", "category", "type")
"""Integers in a column whose name ends so are categories: their size means nothing."""

Kind = Literal["dense", "categorical", "list", "ignored"]


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
    count = min(SAMPLE, len(source))
    return source[np.arange(count) * len(source) // max(count, 1)]


def guess(source: Source, skip: Sequence[str], stated: dict[str, Kind], separator: str, infer: bool) -> list[Guess]:
    """What each column but those of ``skip`` is; ``stated`` (column -> kind) needs no guess.

    Args:
        source: the training split.
        skip: the label, and what else says nothing.
        stated: what the user said.
        separator: between the items of a list.
        infer: judge the other columns; otherwise they are ignored.
    """
    columns = sample(source)
    guesses = []
    for name, kind in source.schema.items():
        if name in skip:
            continue
        if name in stated:
            guesses.append(Guess(name, stated[name], "as stated"))
        elif not infer:
            guesses.append(Guess(name, "ignored", "not named"))
        else:
            guesses.append(Guess(name, *_judge(name, kind, columns[name], separator)))
    return guesses


def _judge(name: str, kind: str, values: Any, separator: str) -> tuple[Kind, str]:
    if kind == "image":
        return "ignored", "images"
    if kind == "class":
        return "categorical", "classes"
    if kind == "text":
        return _judge_texts(values, separator)
    array = np.asarray(values, np.float64).reshape(len(values), -1)[:, 0]
    array = array[np.isfinite(array)]
    distinct = len(np.unique(array))
    if distinct < 2:
        return "ignored", "always the same value"
    if not np.array_equal(array, np.rint(array)):
        return "dense", "fractions"
    named = name.lower().endswith(_NAMES)
    if named and _nearly_unique(distinct, len(array)):
        return "ignored", f"{distinct:,} different numbers in {len(array):,} records: an identifier"
    if named or distinct <= FEW:
        return "categorical", f"{distinct:,} different integers" + (", by its name" if distinct > FEW else "")
    return "dense", f"{distinct:,} different integers"


def _judge_texts(values: Any, separator: str) -> tuple[Kind, str]:
    if any(isinstance(value, list | tuple) for value in values):
        return "list", "lists"
    written = [value for value in texts(values, "text") if value is not None]
    distinct = len(set(written))
    if distinct < 2:
        return "ignored", "always the same value"
    several = [row for row in items(written, separator) if len(row) > 1]
    repeated = Counter(item for row in several for item in row)
    if len(several) >= 0.05 * len(written) and sum(repeated.values()) >= 2 * len(repeated):
        return "list", f"items between {separator!r}, {len(repeated):,} different"
    if _nearly_unique(distinct, len(written)):
        return "ignored", f"{distinct:,} different texts in {len(written):,} records: an identifier or free text"
    return "categorical", f"{distinct:,} different texts in {len(written):,} records"


def _nearly_unique(distinct: int, count: int) -> bool:
    return count >= 100 and distinct > 0.9 * count


def render(guesses: Sequence[Guess], label: str) -> str:
    """The guesses as text for a terminal."""
    width = max((len(g.name) for g in guesses), default=0)
    lines = [f"columns, to predict {label} from (task.fields.dense, .categorical, .lists and .ignored change them):"]
    return "\n".join(lines + [f"  {g.name:{width}}  {g.kind:11}  {g.why}" for g in guesses])
