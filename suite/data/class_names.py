"""Class names: values of a label column as the names of classes, with what is missing told apart."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MISSING = ""
"""The name of a missing label. ``None``, ``NA`` and ``nan`` that stand as texts are names like any other."""
FEW = 20
"""So many different values are classes, however few records there are."""


def class_name(value: Any) -> str:
    """A label as text: 1.0 and 1 are the same, blanks around a text do not count, and a missing label is empty."""
    if value is None:
        return MISSING
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return MISSING
        if float(value).is_integer():
            value = int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip()


def class_names(values: Sequence[Any] | np.ndarray) -> list[str]:
    """The name of each label."""
    return [class_name(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def spelled(name: str) -> str:
    """The name, of truth values as Python spells them: true and TRUE are True."""
    return name.capitalize() if name.lower() in ("true", "false") else name


def too_many(distinct: int, records: int, share: float = 0.8) -> bool:
    """Whether so many different labels are no classes: nearly each record has one of its own."""
    return distinct > FEW and distinct > share * records


def brief(name: str, most: int = 40) -> str:
    """A class name as a line of a report has it: its line breaks are blanks, and a long one is cut."""
    return " ".join(name.splitlines())[:most]
