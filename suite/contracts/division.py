"""Division: how a request splits into units of an explanation, such as words, patches of a picture, columns.

A unit is present, or absent: then the values of its elements are those of a blank, which the division states, too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KEPT = -1
"""Label of an element that belongs to no unit, such as a special token: it is always present."""


@dataclass(frozen=True)
class Unit:
    """One thing of a record.

    Attributes:
        name: what it is called: the word, the column, where the patch lies.
        column: the input that it is of.
        place: where it lies: of a text the first character and the one behind the last; of a picture the rows and
            columns of pixels ``(top, left, bottom, right)``; of a recording ``(from, to, low, high)``, seconds and
            shares of the bands. Empty of what has no place.
    """

    name: str
    column: str
    place: tuple[float, ...] = ()


@dataclass(frozen=True)
class Division:
    """The units of one record.

    Attributes:
        units: all of them.
        labels: encoded array -> the unit of each element of the record's row, or `KEPT`. Axes that are missing at the
            end, such as the channels of a picture, are of one unit. Of arrays that ``scaled`` names, a grid that lies
            over what the model is given, whatever its size.
        blank: encoded array -> the row that stands for its absence, of the shape of the record's own; None: zeros where
            the model is given it, which is the mean where values are standardised.
        about: what an absent unit is replaced by, in words.
        texts: input -> the text that places count in.
        shapes: input of pictures -> their rows and columns of pixels.
        scaled: arrays whose labels are a grid.
    """

    units: tuple[Unit, ...]
    labels: Mapping[str, np.ndarray]
    blank: Mapping[str, np.ndarray | None]
    about: str
    texts: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    scaled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NumberScale:
    """How an explained number is read: ``factor * learnt + offset``, in the unit of its target where that is a line.

    Attributes:
        factor, offset: 1 and 0 where the way from what is learnt to that unit is no line.
        of: what the number is of its target then, such as ``"the standardised logarithm"``; empty in its unit.
    """

    factor: float = 1.0
    offset: float = 0.0
    of: str = ""

    def read(self, learnt: Any) -> Any:
        """Numbers of any shape, as they are read."""
        return self.factor * learnt + self.offset


def fitted(labels: np.ndarray, shape: Sequence[int], filled: float = 0.0) -> np.ndarray:
    """Labels as an array of ``shape``.

    Args:
        labels: of `Division.labels`.
        shape: of one row as the model is given it: longer by padding, which is `KEPT`, or with more axes at the end.
        filled: of a grid, the share of the first axis that the record fills; 0: these labels are no grid.

    Raises:
        ValueError: they do not fit.
    """
    shape = tuple(shape)
    if filled:
        # A frame too many is padding, which no score depends on; one too few would keep what belongs to the record.
        long = min(math.ceil(filled * shape[0]), shape[0])
        rows = np.full(shape[0], KEPT)
        rows[:long] = np.arange(long) * labels.shape[0] // long
        sizes = zip(shape[1:], labels.shape[1:], strict=False)
        grids = np.ix_(np.maximum(rows, 0), *(np.arange(size) * cells // size for size, cells in sizes))
        whole = labels[grids]
        whole[rows == KEPT] = KEPT
        labels = whole
    while labels.ndim > len(shape) and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim > len(shape) or any(own > side for own, side in zip(labels.shape, shape, strict=False)):
        raise ValueError(f"labels of shape {labels.shape} for {shape}")
    known = shape[: labels.ndim]
    padded = np.full(known, KEPT, np.int32)
    padded[tuple(slice(size) for size in labels.shape)] = labels
    return np.broadcast_to(padded.reshape(*known, *(1 for _ in shape[labels.ndim :])), shape)


def summed(values: np.ndarray, labels: np.ndarray, units: int) -> np.ndarray:
    """The sum over the elements of each unit (units,), float64."""
    chosen = labels != KEPT
    return np.bincount(labels[chosen], np.asarray(values, np.float64)[chosen], units)


def joint(parts: Sequence[Division]) -> Division:
    """The division of a record that several codecs divide, each its own arrays."""
    units: list[Unit] = []
    labels: dict[str, np.ndarray] = {}
    for part in parts:
        labels |= {n: np.where(row == KEPT, KEPT, row + len(units)) for n, row in part.labels.items()}
        units += part.units
    return Division(
        tuple(units),
        labels,
        {name: row for part in parts for name, row in part.blank.items()},
        "; ".join(dict.fromkeys(part.about for part in parts if part.units)),
        {name: text for part in parts for name, text in part.texts.items()},
        {name: shape for part in parts for name, shape in part.shapes.items()},
        frozenset(name for part in parts for name in part.scaled),
    )


def plain(rows: Mapping[str, np.ndarray], count: int) -> list[Division]:
    """The divisions of records whose codec says nothing of them: each number by itself where they are few, else a
    whole array; numbers are replaced by 0, and what is looked up by the vector of zeros.

    Args:
        rows: encoded, each (b, ...).
        count: b.
    """
    units: list[Unit] = []
    labels: dict[str, np.ndarray] = {}
    for name, values in rows.items():
        shape = values.shape[1:]
        single = len(shape) == 1 and shape[0] <= 64
        labels[name] = len(units) + (np.arange(shape[0]) if single else np.zeros(shape, np.int64))
        several = single and shape[0] > 1
        units += [Unit(f"{name} {place + 1}" if several else name, name) for place in range(shape[0] if single else 1)]
    about = "an absent value is 0 where the model is given it"
    return [Division(tuple(units), labels, dict.fromkeys(labels), about)] * count
