"""Bounds of the numbers in a dataclass that may come from a stranger's bundle: they are checked when it is built."""

from collections.abc import Mapping
from typing import Any

from suite.errors import InputError

Bounds = Mapping[str, tuple[float, float]]
"""A field -> its least and its greatest number. Where both are integers, so is the field."""
LENGTH = (1, 1_000_000)
"""Tokens, words or items of a record that a model reads."""


def check_bounds(value: Any, bounds: Bounds) -> None:
    """Compares the numbers of a dataclass, or of its tuples, with their bounds.

    Raises:
        InputError: a number is out of its bounds, is not finite, or no integer where it must be one.
    """
    for name, (low, high) in bounds.items():
        given = getattr(value, name)
        for number in given if isinstance(given, tuple) else (given,):
            whole = isinstance(low, int) and isinstance(high, int)
            fits = isinstance(number, int if whole else int | float) and not isinstance(number, bool)
            if not (fits and low <= number <= high):
                kind = "an integer" if whole else "a number"
                near = low if not fits or number < low else high
                raise InputError(
                    f"field {name} of {type(value).__name__}",
                    f"must be {kind} from {low:,} to {high:,}",
                    found=f"{number!r:.60}",
                    fix=f"{name} {' '.join([str(near)] * (len(given) if isinstance(given, tuple) else 1))}",
                )
