"""Column kinds of a table, judged by type and number of distinct values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from suite.contracts.data import Source
from suite.data.preprocessing.tabular_order import (
    COMPLETE,
    REPEATED,
    as_target,
    is_complete,
    measures,
    names_things,
    order,
)
from suite.data.preprocessing.tabular_values import items, texts
from suite.data.sources.memory import evenly_spaced

SAMPLE = 20_000
"""Records that the kinds of columns are judged by, evenly spaced."""
FEW = 16
"""Integers with at most so many different values are categories."""

Kind = Literal["dense", "categorical", "both", "list", "ignored"]
"""``"both"``: a number and a category, where neither is plain."""


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


def guess(source: Source, skip: Sequence[str], stated: dict[str, Kind], separator: str, infer: bool) -> list[Guess]:
    """What each column but those of ``skip`` is; ``stated`` (column -> kind) needs no guess.

    Args:
        source: the training split.
        skip: the label, in whose terms an order of numbers is looked for, and what else says nothing.
        stated: what the user said.
        separator: between the items of a list.
        infer: judge the other columns; otherwise they are ignored.
    """
    columns = sample(source)
    label = next((name for name in skip if name in source.schema), "")
    target = as_target(columns[label]) if label else None
    guesses = []
    for name, kind in source.schema.items():
        if name in skip:
            continue
        if name in stated:
            guesses.append(Guess(name, stated[name], "as stated"))
        elif not infer:
            guesses.append(Guess(name, "ignored", "not named"))
        else:
            guesses.append(Guess(name, *_judge(name, kind, columns[name], separator, target, len(source))))
    return guesses


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
