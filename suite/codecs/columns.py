"""Columns of a request: checks that required ones are present and hold values."""

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from suite.contracts import values
from suite.contracts.batch import Columns
from suite.contracts.signature import Input
from suite.data.class_names import class_name
from suite.data.preprocessing.labels import UNSEEN, Labels
from suite.data.reading import is_missing
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


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Errors that are raised inside name the input ``name``, of which a value is read."""
    try:
        yield
    except InputError as error:
        error.input = error.input or name
        raise


def optional(columns: Columns, name: str, rows: int) -> Sequence[Any]:
    """The values (rows,) of an input that may be missing; None where nothing was given: no column, None or blanks."""
    given = columns.get(name)
    if given is None:
        return [None] * rows
    return [None if isinstance(value, str) and not value.strip() else value for value in given]


def option_input(name: str, about: str, low: float, high: float, default: float, whole: bool = False) -> Input:
    """An input of a number within bounds, whose default stands where nothing is given; ``about`` is what it is."""
    return Input(
        name=name,
        kind="number",
        description=about,
        required=False,
        option=True,
        example=default,
        low=low,
        high=high,
        default=default,
        whole=whole,
    )


def option_numbers(columns: Columns, entry: Input, rows: int) -> np.ndarray:
    """float32 (rows,) of an option, its default where nothing was given.

    Numbers alone are taken: those that a table writes are read where the table is, see `suite.workflow.records`.

    Raises:
        InputError: no number, or out of the bounds of the input.
    """
    numbers = []
    for value in optional(columns, entry.name, rows):
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            numbers.append(entry.default if plain is None else values.number(entry, plain, {}))
        except values.Unfit as error:
            raise InputError(f'input "{entry.name}"', error.message, found=told(value), fix=error.fix) from None
    return np.array(numbers, np.float32)


def request_classes(labels: Labels, name: str, given: Sequence[Any]) -> np.ndarray:
    """Class (b,) int32 of each value of the input ``name``.

    Raises:
        InputError: a value is no class.
    """
    classes = labels.encode(given, held_out=True)
    unseen = np.flatnonzero(classes == UNSEEN)
    if len(unseen):
        names, value = labels.names, given[unseen[0]]
        near = closest(class_name(value), names) or names[0]
        more = " ..." if len(names) > 20 else ""
        raise InputError(
            f'input "{name}"',
            f"must be one of {', '.join(names[:20])}{more}.",
            found=told(value),
            fix=f'"{name}": {json.dumps(near, ensure_ascii=False)}',
        )
    return classes


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
    empty = next(
        (place for place, value in enumerate(values, 1) if is_missing(value) and not isinstance(value, str)), 0
    )
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
