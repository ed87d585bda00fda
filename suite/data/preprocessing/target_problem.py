"""Problem of a target: whether a column holds a number, two classes, several, ordered ones, or several labels a record.

Whole numbers of few different values are classes, as in AutoGluon: at most `MOST_WHOLE` values that are a twentieth of
the records or less, a tenth of fewer than a thousand.
"""

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from suite.contracts.data import Source
from suite.data import written
from suite.data.class_names import FEW, MISSING, brief, class_name, spelled, too_many
from suite.data.preprocessing.label_checks import (
    check_classes,
    class_column,
    class_counts,
    counted,
    is_numeric,
    several,
)
from suite.errors import InputError, closest

Problem = Literal["number", "binary", "classes", "ordered", "labels"]
MOST_WHOLE = 20
"""Different whole numbers above which a column is a number."""
FEW_RECORDS = 1000
POSITIVE = ("1", "true", "yes", "y", "positive", "pos", "t")
NEGATIVE = ("0", "-1", "false", "no", "n", "negative", "neg", "f")
"""Names that say by themselves which of two classes is the event, in lower case, in pairs."""


@dataclass(frozen=True)
class Judgement:
    """What a column is taken for.

    Attributes:
        problem: which one.
        names: of the classes or labels, in the order of the model's outputs; none of a number.
        counts: training records of each.
        why: the reason, for a person to read.
        overrule: the flag that overrules it.
        separator: between the labels of one record, where they are written as one text.
        indexed: whether the data hold positions in ``names`` rather than names.
        rest: whether the first of two classes is all values but the second.
    """

    problem: Problem
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    why: str = ""
    overrule: str = ""
    separator: str = ""
    indexed: bool = False
    rest: bool = False


@dataclass(frozen=True)
class Stated:
    """What a user says of the target: see the fields of `suite.data.preprocessing.target.Target`."""

    problem: Problem | Literal["auto"]
    order: tuple[str, ...]
    separator: str
    positive: str


def judge(source: Source, column: str, stated: Stated, flag: str) -> Judgement:
    """The problem that the training column poses.

    Args:
        source: the training split, without records whose target is missing.
        column: of targets.
        stated: what the user says.
        flag: that names the column on the command line, such as ``--task.target``.

    Raises:
        InputError: the column poses no problem that can be learnt, or not the one that is stated.
    """
    named = source.classes.get(column)
    values = source.column(column, np.arange(len(source)))
    problem = stated.problem
    if problem == "auto" and stated.order:
        problem = "ordered"
    if problem == "auto" and stated.positive:
        problem = "binary"
    if problem == "auto" and stated.separator:
        problem = "labels"
    _check_stated(stated, problem)
    if named is not None and problem in ("auto", "classes", "binary"):
        return _named(source, named, problem, stated.positive, column)
    if problem == "number":
        return _number(values, column, "as stated")
    if problem == "labels" or (problem == "auto" and are_lists(values)):
        return _labels(values, stated.separator, column)
    if problem == "auto":
        return _inferred(source, values, column, stated, flag)
    return _classes(source, values, problem, column, stated, flag)


def _check_stated(stated: Stated, problem: str) -> None:
    """Raises InputError: something is stated that the problem has no use for."""
    for field, needed in (("order", "ordered"), ("separator", "labels"), ("positive", "binary")):
        value = getattr(stated, field)
        if value and problem != needed:
            raise InputError(
                f"field task.answer.{field}",
                f"is of the problem {needed}, and {problem} is stated.",
                found=value if isinstance(value, str) else " ".join(value),
                fix=shlex.join(["--task.answer.problem", needed]),
            )


def are_lists(values: Any) -> bool:
    """Whether a column holds lists."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.ndim > 1
    return any(isinstance(value, list | tuple | np.ndarray) for value in values)


def label_rows(values: Any, separator: str) -> list[list[str]]:
    """The labels of each record; of an array that holds 0 or 1 for each label, the places of those that are 1."""
    if has_indicators(values):
        return [[str(place) for place in np.flatnonzero(row)] for row in values]
    return [parts_of(value, separator) for value in values]


def has_indicators(values: Any) -> bool:
    """Whether a column is an array that holds 0 or 1 for each of several labels."""
    array = isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "biuf"
    return array and bool(np.isin(values, (0, 1)).all())


def parts_of(value: Any, separator: str) -> list[str]:
    """The labels of a record, each once: of a list its items, of a text what the separator parts; none of what is
    missing."""
    items = value if isinstance(value, list | tuple | np.ndarray) else class_name(value).split(separator)
    return list(dict.fromkeys(name for item in items if (name := spelled(class_name(item)))))


def _inferred(source: Source, values: Any, column: str, stated: Stated, flag: str) -> Judgement:
    numeric = is_numeric(values)
    counts = counted(values)
    counts.pop(MISSING, None)
    if numeric and len(counts) > 2:
        whole = all(float(name).is_integer() for name in counts)
        share = len(counts) / counts.total()
        limit = 0.1 if counts.total() < FEW_RECORDS else 0.05
        if not whole:
            return _number(values, column, "numbers, not all of them whole")
        if len(counts) > MOST_WHOLE or share > limit:
            _check_no_row_number(source, counts, column, flag)
            return _number(values, column, f"whole numbers of {len(counts):,} different values")
        judged = _classes(source, values, "classes", column, stated, flag)
        why = f"whole numbers of {len(counts)} different values"
        return replace(judged, why=why, overrule="--task.answer.problem number, or ordered")
    if not numeric and (separator := several(counts)):
        parts = {part for name in counts for part in parts_of(name, separator)}
        if len(parts) <= len(counts) and any(separator in name for name in counts):
            judged = _labels(values, separator, column)
            why = f"texts that {separator!r} parts, whose parts come again"
            return replace(judged, why=why, overrule="--task.answer.problem classes")
    return _classes(source, values, "binary" if len(counts) == 2 else "classes", column, stated, flag)


def _check_no_row_number(source: Source, counts: Mapping[str, int], column: str, flag: str) -> None:
    """Raises InputError: whole numbers that are all different, and close to each other, number the records."""
    numbers = [float(name) for name in counts]
    if len(numbers) < 100 or len(numbers) < len(source) or max(numbers) - min(numbers) > 1.5 * len(numbers):
        return
    another = class_column(source, column)
    raise InputError(
        f"column {column}",
        f"holds {len(numbers):,} different whole numbers in as many records, one after the other: it numbers the "
        "records, and says nothing of them.",
        found=", ".join(list(counts)[:3]) + ", ...",
        fix=shlex.join([flag, another]) if another else "where it is a quantity: --task.answer.problem number",
    )


def _number(values: Any, column: str, why: str) -> Judgement:
    different = len(set(values.tolist() if isinstance(values, np.ndarray) else values))
    if different < 2:
        raise InputError(
            f"column {column}",
            "all training records have the same number: there is nothing to learn.",
            found=str(values[0]) if len(values) else "no record",
            fix="name another column",
        )
    return Judgement("number", why=why, overrule="--task.answer.problem classes")


def _classes(source: Source, values: Any, problem: Problem, column: str, stated: Stated, flag: str) -> Judgement:
    """Classes of texts or numbers; of two, which is the event."""
    counts = counted(values)
    counts.pop(MISSING, None)
    if problem == "binary":
        return _binary(counts, stated.positive, column)
    if problem == "ordered":
        names = _in_order(list(counts), stated.order, column)
        _check_several(names, counts, column)
        if too_many(len(counts), counts.total()):
            check_classes(source, column, flag)
        why = "in the order that is stated" if stated.order else "numbers, by size"
        return Judgement("ordered", names, tuple(counts[name] for name in names), why)
    names = tuple(check_classes(source, column, flag))
    if all(written.is_number(name) for name in names):
        names = tuple(sorted(names, key=float))
    return Judgement("classes", names, tuple(counts[name] for name in names))


def _binary(counts: Counter[str], positive: str, column: str) -> Judgement:
    wanted = spelled(class_name(positive))
    if positive and wanted not in counts:
        raise InputError(
            "field task.answer.positive",
            f'"{positive}" is no value of column {column}.',
            found=", ".join(map(brief, list(counts)[:5])) + (", ..." if len(counts) > 5 else ""),
            fix=f"--task.answer.positive {shlex.quote(closest(positive, list(counts)) or next(iter(counts), ''))}",
        )
    _check_several(tuple(counts), counts, column)
    if len(counts) > 2:
        if not positive:
            rarest = min(counts, key=lambda name: (counts[name], name))
            raise InputError(
                f"column {column}",
                f"holds {len(counts):,} different values, and two classes are stated.",
                found=", ".join(map(brief, list(counts)[:5])) + ", ...",
                fix=f"--task.answer.positive {shlex.quote(rarest)}: that one against all others; else "
                "--task.answer.problem classes",
            )
        rest = counts.total() - counts[wanted]
        names = (f"not {wanted}", wanted)
        return Judgement("binary", names, (rest, counts[wanted]), "as stated, against all others", rest=True)
    event, why = (wanted, "as stated") if positive else _event(counts)
    (other,) = (name for name in counts if name != event)
    return Judgement(
        "binary", (other, event), (counts[other], counts[event]), why, f"--task.answer.positive {shlex.quote(other)}"
    )


def _event(counts: Mapping[str, int]) -> tuple[str, str]:
    """Which of two classes is the event, and why."""
    first, second = sorted(counts)
    for one, other in ((first, second), (second, first)):
        if one.lower() in POSITIVE and (other.lower() in NEGATIVE or one in ("1", "True")):
            return one, "by its name"
    if counts[first] != counts[second]:
        return min(counts, key=counts.__getitem__), "the rarer one"
    return second, "the later one in the alphabet, since both are as frequent"


def _named(
    source: Source, names: Sequence[str], problem: Problem | Literal["auto"], positive: str, column: str
) -> Judgement:
    """Classes that the data name: their records hold positions."""
    if len(names) < 2:
        raise InputError(f"column {column}", "there is only one class", found=", ".join(names), fix="add another class")
    if problem != "classes" and len(names) == 2:
        problem = "binary"
        if positive and positive != names[1]:
            raise InputError(
                "field task.answer.positive",
                "the data name two classes, the second of which is the event.",
                found=" ".join(names),
                fix=f"--task.answer.positive {shlex.quote(names[1])}",
            )
    if problem == "binary" and len(names) > 2:
        raise InputError(
            f"column {column}",
            f"has {len(names)} classes, and two are stated.",
            found=", ".join(names[:5]),
            fix="--task.answer.problem classes",
        )
    kind: Problem = "classes" if problem == "auto" else problem
    records = class_counts(source, column)
    counts = tuple(records[name] for name in names)
    return Judgement(kind, tuple(names), counts, "as the data name them", indexed=True)


def _labels(values: Any, separator: str, column: str) -> Judgement:
    lists, indicators = are_lists(values), has_indicators(values)
    if not lists and not separator:
        separator = several(counted(values)) or "|"
    rows = label_rows(values, separator)
    counts = Counter(name for row in rows for name in row)
    _check_several(tuple(counts), counts, column)
    if too_many(len(counts), len(rows), 0.5):
        raise InputError(
            f"column {column}",
            f"holds {len(counts):,} different labels in {len(rows):,} training records: free text or identifiers, not "
            "labels.",
            found=", ".join(map(brief, list(counts)[:3])) + ", ...",
            fix="where another sign parts them: --task.answer.separator SIGN; else name another column",
        )
    names = tuple(sorted(counts, key=int) if indicators else sorted(counts))
    why = "0 or 1 for each" if indicators else "lists" if lists else f"texts that {separator!r} parts"
    return Judgement(
        "labels", names, tuple(counts[name] for name in names), why, "--task.answer.separator SIGN", separator
    )


def _check_several(names: Sequence[str], counts: Mapping[str, int], column: str) -> None:
    if len(names) < 2:
        raise InputError(
            f"column {column}",
            "there is only one class",
            found=", ".join(names) or "none",
            fix="name another column, or add records of another class",
        )


def _in_order(names: Collection[str], order: Sequence[str], column: str) -> tuple[str, ...]:
    """The classes from the lowest to the highest.

    Raises:
        InputError: no order is stated and they are not numbers, or it leaves out a class.
    """
    if not order:
        if all(written.is_number(name) for name in names):
            return tuple(sorted(names, key=float))
        few = len(names) <= FEW
        raise InputError(
            "field task.answer.order",
            f"the classes of column {column} are texts: their order must be stated, the lowest first.",
            found=", ".join(sorted(names)[:FEW]),
            fix=shlex.join(["--task.answer.order", *sorted(names)]) + ", put in order" if few else "",
        )
    stated = tuple(spelled(class_name(name)) for name in order)
    if missing := sorted(set(names) - set(stated)):
        raise InputError(
            "field task.answer.order",
            f"leaves out classes of column {column}: {', '.join(missing[:5])}",
            found=" ".join(stated),
            fix=shlex.join(["--task.answer.order", *stated, *missing]),
        )
    return tuple(dict.fromkeys(stated))
