"""Columns of a table as units of an explanation. Dims: i numbers, s values of an example, w values of lists."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.contracts.division import Division, Unit
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_columns import Number

ABOUT = "an absent number is the mean, an absent category or list the most frequent value of training"


def column_units(fields: Fields, names: tuple[str, str, str]) -> Division:
    """The columns of a table, the same for each record.

    Args:
        fields: what the columns are.
        names: what the codec calls the numbers, the rows of categories and lists, and the weights of lists.
    """
    units = tuple(
        Unit(name, name)
        for name in dict.fromkeys([*(n.name for n in fields.numbers), *(f.name for f in fields.fields)])
    )
    place = {unit.name: number for number, unit in enumerate(units)}
    single, several = ([f for f in fields.fields if bool(f.length) == many] for many in (False, True))
    binned = fields.numbers if fields.bins and fields.bins_as_categories else ()
    dense = [place[number.name] for number in fields.numbers for _ in range(number.width)]
    ids = [place[name] for name in (*(field.name for field in single), *(number.name for number in binned))]
    lists = [place[field.name] for field in several for _ in range(field.length)]
    labels = dict(zip(names, (np.array(row, np.int32) for row in (dense, ids + lists, lists)), strict=True))
    usual = _usual(fields)
    blank = {name: usual[key][0] for name, key in zip(names, ("dense", "ids", "weights"), strict=True)}
    used = {name for name, row in labels.items() if len(row)}
    return Division(units, {n: labels[n] for n in used}, {n: blank[n] for n in used}, ABOUT)


def _usual(fields: Fields) -> Mapping[str, Any]:
    """A record of means and most frequent values, encoded: one row."""
    record: dict[str, Any] = {number.name: [_mean(number)] for number in fields.numbers if not number.part}
    frequent = {field: field.values[0] for field in fields.fields if field.values and not field.of}
    record |= {field.name: [[value]] if field.length else [value] for field, value in frequent.items()}
    rows = fields.encode(record or {"": [None]}, needed=False)
    # The mean as it was read may be rounded; a missing value, as that of a date, has an indicator.
    return {**rows, "dense": np.zeros_like(rows["dense"])}


def _mean(number: Number) -> float:
    return float(np.sign(number.mean) * np.expm1(abs(number.mean))) if number.log else number.mean
