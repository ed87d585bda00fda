"""Dates as tables write them, and the numbers that a model is given of each."""

import functools
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from suite.data import written
from suite.errors import InputError

ISO = "iso"
"""The format of ``2024-05-01``, ``2024-05-01T12:30:00Z`` and what else ISO 8601 allows."""
_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
FORMATS = (ISO, *(day + time for time in _TIMES for day in (*_DAYS, "%B %d, %Y")))
"""Formats that are tried, in this order; of those that fit all values the first is taken."""
SHORTEST, LONGEST = 8, 40
"""Characters of a date."""
_DAY = 86400.0
PARTS: dict[str, Callable[[datetime], float]] = {
    "time": lambda moment: moment.timestamp() / _DAY,
    "year": lambda moment: float(moment.year),
    "month": lambda moment: float(moment.month),
    "day": lambda moment: float(moment.day),
    "weekday": lambda moment: float(moment.weekday()),
    "hour": lambda moment: moment.hour + moment.minute / 60,
}
"""Numbers of a date: days since 1970, and its place in the year, the month, the week and the day."""


def read(value: Any, form: str) -> datetime | None:
    """A date in one of ``FORMATS``, in UTC where it states no zone; None where it is none."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return _parsed(str(value).strip(), form)


@functools.lru_cache(maxsize=1 << 16)
def _parsed(text: str, form: str) -> datetime | None:
    if not SHORTEST <= len(text) <= LONGEST or not any(map(str.isdigit, text)):
        return None
    if form == ISO and text.isdigit():  # 20240501 is a number, or a code
        return None
    try:
        moment = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def example(form: str) -> str:
    """A date in one of ``FORMATS``."""
    moment = datetime(2024, 5, 31)
    return moment.date().isoformat() if form == ISO else moment.strftime(form)


def is_missing(value: Any) -> bool:
    """Whether a value is a gap in a column of dates."""
    return value is None or (isinstance(value, float) and value != value) or written.is_gap(str(value))


def judged(values: Sequence[Any]) -> tuple[str, str]:
    """The format of a column of dates, and another that fits all of its values with other dates; each empty where there
    is none.

    Args:
        values: of the column; missing ones are left out.
    """
    there = [value for value in values if not is_missing(value)]
    distinct = list(dict.fromkeys(map(str, there)))
    if not distinct:
        return "", ""
    fitting = [form for form in FORMATS if all(read(value, form) is not None for value in distinct)]
    if not fitting:
        return "", ""
    first = fitting[0]
    differs = lambda form: any(read(value, form) != read(value, first) for value in distinct)
    return first, next((form for form in fitting[1:] if differs(form)), "")


def numbers(values: Sequence[Any], form: str, part: str, column: str) -> np.ndarray:
    """One of ``PARTS`` of each value, float64 (b,); nan where it is missing.

    Raises:
        InputError: a value that is no date of this format.
    """
    numbers = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        if is_missing(value):
            continue
        moment = read(value, form)
        if moment is None:
            raise InputError(
                f"column {column}",
                f"holds a value that is no date ({'ISO 8601' if form == ISO else form})",
                found=f"{value!r:.60}",
                fix=f"correct the record, or --task.fields.categorical {shlex.quote(column)}",
            )
        numbers[place] = PARTS[part](moment)
    return numbers
