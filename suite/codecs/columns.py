"""Columns of a request: checks that required ones are present and hold values."""

from typing import Any

from suite.contracts.batch import Columns
from suite.errors import InputError

CHARACTERS = 100
"""Characters a token that a text may have before a server refuses it unread; in natural language it has about five."""


def column(columns: Columns, name: str) -> Any:
    """The column ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in columns:
        raise InputError(
            f'input "{name}"',
            "is missing.",
            found=", ".join(map(str, columns)) or "nothing",
            fix=f'a column, or key, "{name}"',
        )
    return columns[name]


def texts(columns: Columns, name: str) -> list[str]:
    """The column ``name`` as texts; numbers are written out.

    Raises:
        InputError: there is no such column, or a record has no value there.
    """
    values = list(column(columns, name))
    empty = next((place for place, value in enumerate(values, 1) if value is None), 0)
    if empty:
        raise InputError(
            f'input "{name}"',
            "holds no text.",
            found=f"nothing in record {empty} of {len(values)}",
            fix="leave the record out, or fill it in",
        )
    return [str(value) for value in values]
