"""Seeds of a request: what the random numbers of its answers come from, given or drawn."""

import secrets
from typing import Any

from suite.contracts.values import json_type
from suite.data.pipeline.padding import SEEDS
from suite.serving.errors import Refused

FIELD = "seed"
FIX = f"a whole number from 0 to {SEEDS - 1}, or one a record"


def drawn(count: int) -> list[int]:
    """A seed a record, by the entropy of this machine."""
    return [secrets.randbelow(SEEDS) for _ in range(count)]


def seeds_of(value: Any, count: int) -> list[int]:
    """The seed of each of ``count`` records, from JSON: one number for all, or a list of them.

    Raises:
        Refused: a seed is no whole number of 32 bits, or there are not as many as records.
    """
    if not isinstance(value, list):
        return [_seed(value, FIELD)] * count
    if len(value) != count:
        message = f"holds {len(value)} seeds for {count} records."
        raise Refused(400, "uneven", message, field=FIELD, fix="one number for all records, or one a record")
    return [_seed(one, f"{FIELD}[{place}]") for place, one in enumerate(value)]


def written(values: list[bytes], count: int) -> list[int]:
    """The seed of each of ``count`` records, from the fields of a form."""
    numbers = [int(value) if value.isdigit() and len(value) <= len(str(SEEDS)) else str(value) for value in values]
    return seeds_of(numbers[0] if len(numbers) == 1 else numbers, count)


def _seed(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, "wrong_type", f"must be a number, not {json_type(value)}.", field=field, fix=FIX)
    if value != value // 1 or not 0 <= value < SEEDS:
        raise Refused(400, "invalid_seed", "must be a whole number of 32 bits.", field=field, fix=FIX)
    return int(value)
