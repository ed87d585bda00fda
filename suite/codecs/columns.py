"""Columns of a request: checks that required ones are present and hold values."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.signature import Input
from suite.errors import InputError, closest

CHARACTERS = 100
"""Characters a token that a text may have before a server refuses it unread; in natural language it has about five."""
COMPARED = 100
"""Columns of a request, and characters of their names, by which a misspelt one is looked for."""


def column(columns: Columns, name: str) -> Any:
    """The column ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in columns:
        raise _missing(name, columns)
    return columns[name]


def told(value: Any) -> str:
    """A value of a request, as an error shows it: NumPy's numbers, which tables have, as Python's."""
    return f"{value.item() if isinstance(value, np.generic) else value!r:.60}"


def check_columns(inputs: Sequence[Input], given: Collection[str], whole: bool = False) -> list[str]:
    """Columns that no input reads, in their order. A server and the command line check requests by it alike.

    Args:
        inputs: of the model.
        given: names of the columns of a request.
        whole: whether the request states all of its columns, as a table does: one that may hold missing values must be
            there all the same, unless it is an option. Of records in JSON a key may be absent.

    Raises:
        InputError: a column that is no input has nearly the name of one that is not there, or an input is missing.
    """
    known = {entry.name for entry in inputs}
    missing = [entry.name for entry in inputs if entry.name not in given]
    extra = [name for name in map(str, given) if name not in known]
    for name in extra[:COMPARED] if missing else ():
        if near := closest(name[:COMPARED], missing):
            raise unknown_input(name, near)
    for entry in inputs:
        if entry.name in missing and (entry.required or (whole and not entry.option)):
            one = f", one of {', '.join(entry.choices):.300}" if entry.choices else ""
            raise _missing(entry.name, given, one if entry.required else ", empty where it is not known")
    return extra


def unknown_input(name: str, fix: str) -> InputError:
    """The error that a request has a column, or a key, that the model does not take."""
    return InputError(f'input "{name:.100}"', "is no input of this model.", fix=fix)


def _missing(name: str, given: Collection[str], how: str = "") -> InputError:
    found = ", ".join(map(str, given))
    return InputError(
        f'input "{name}"', "is missing.", found=f"{found:.300}" or "nothing", fix=f'a column, or key, "{name}"{how}'
    )


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
            found=f"nothing in record {empty} of {len(values)}" if len(values) > 1 else "nothing",
            fix="leave the record out, or fill it in",
        )
    return [str(value) for value in values]


def text_input(name: str, read: int, example: str, about: str = "") -> Input:
    """An input of a text.

    Args:
        name: of the column.
        read: tokens, or words, that a model reads of it.
        example: a text that can be asked.
        about: what it is; empty: a text whose first tokens are read.
    """
    about = about or f"a text; its first {read} tokens are read"
    return Input(name=name, kind="text", description=about, example=example, limit=CHARACTERS * read)
