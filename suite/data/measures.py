"""Measures of columns for the inspection of a dataset: ranges of numbers, lengths of recordings, sizes of boxes."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from suite.data import recordings
from suite.data.preprocessing.boxes import boxes_of
from suite.errors import InputError

NUMBERS = ("float", "int")
"""Kinds of columns that have a range."""


class Range:
    """Least, middle and largest number of a column, how many are missing, and how many differ."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.missing = 0

    def add(self, values: Iterable[Any]) -> None:
        """Takes values in, of a value that is a row of numbers all of these; None and what is not finite is missing."""
        rows = [np.ravel(np.nan if value is None else value) for value in values]
        numbers = np.concatenate(rows).astype(np.float64) if rows else np.zeros(0)
        finite = numbers[np.isfinite(numbers)]
        self.missing += len(numbers) - len(finite)
        self.parts.append(finite)

    def summary(self) -> dict[str, float]:
        """``min``, ``median``, ``max``, ``distinct`` and ``missing``; only the last where there is no number."""
        numbers = np.concatenate(self.parts) if self.parts else np.zeros(0)
        if not len(numbers):
            return {"missing": self.missing}
        low, middle, high = np.percentile(numbers, [0, 50, 100], method="inverted_cdf").tolist()
        distinct = len(np.unique(numbers))
        return {"min": low, "median": middle, "max": high, "distinct": distinct, "missing": self.missing}


class Recordings:
    """Seconds and sample rates of recordings, by their headers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.rates: Counter[int] = Counter()

    def add(self, values: Iterable[Any]) -> dict[int, str]:
        """Takes recordings in. Returns place -> reason of those that training leaves out, see `recordings.examine`."""
        faults: dict[int, str] = {}
        for place, value in enumerate(values):
            if isinstance(value, np.ndarray):
                continue  # samples alone say nothing of their rate
            try:
                seconds, rate = recordings.extent(value)
            except InputError as error:
                if error.where.startswith("package "):
                    raise
                faults[place] = error.reason if isinstance(error, recordings.Unusable) else recordings.ENDED
                continue
            if reason := recordings.examine(value, rate, 1, math.inf):
                faults[place] = reason
                continue
            self.seconds.append(seconds)
            self.rates[rate] += 1
        return faults

    def summary(self) -> dict[str, Any]:
        """``seconds``: min, median, 95% and max; ``hours`` in all; ``rates``: Hz -> recordings. Empty: of none."""
        if not self.seconds:
            return {}
        low, middle, most, high = np.percentile(self.seconds, [0, 50, 95, 100], method="inverted_cdf").tolist()
        spread = {"min": low, "median": middle, "95%": most, "max": high}
        rates = dict(self.rates.most_common(5))
        return {"seconds": spread, "hours": sum(self.seconds) / 3600, "rates": rates}


class Boxes:
    """Classes, numbers and sizes of the boxes of pictures."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.numbers: list[int] = []
        self.sides: list[float] = []

    def add(self, values: Iterable[Any]) -> None:
        """Takes the boxes of pictures in."""
        for value in values:
            boxes = boxes_of(value)
            self.labels.update(box.label for box in boxes)
            self.numbers.append(len(boxes))
            self.sides += [((box.box[2] - box.box[0]) * (box.box[3] - box.box[1])) ** 0.5 for box in boxes]

    def summary(self) -> dict[str, Any]:
        """``labels``: class -> boxes; ``numbers``: boxes of a picture, min, median and max; ``sides``: pixels of the
        side of a square of a box's area, min, median and max."""
        spread = lambda values: dict(
            zip(
                ("min", "median", "max"), np.percentile(values or [0], [0, 50, 100], method="inverted_cdf"), strict=True
            )
        )
        return {
            "labels": dict(self.labels.most_common(100)),
            "numbers": {name: int(number) for name, number in spread(self.numbers).items()},
            "sides": {name: float(side) for name, side in spread(self.sides).items()},
        }


def render_boxes(name: str, about: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    total = max(sum(about["labels"].values()), 1)
    labels = ", ".join(
        f"{label} {count:,} ({count / total:.1%})" for label, count in list(about["labels"].items())[:20]
    )
    numbers = ", ".join(f"{key} {value:,}" for key, value in about["numbers"].items())
    sides = ", ".join(f"{key} {value:.0f}" for key, value in about["sides"].items())
    return [f"{name}: {labels or 'none'}", f"{name} a picture: {numbers}; sides in pixels: {sides}"]


def render_range(name: str, about: dict[str, float]) -> str:
    """One line for a terminal."""
    if "min" not in about:
        return f"{name}: no numbers, {about['missing']:,} missing"
    missing = f", {about['missing']:,} missing" if about["missing"] else ""
    return (
        f"{name}: {about['min']:.6g} to {about['max']:.6g}, median {about['median']:.6g}, "
        f"{about['distinct']:,} distinct{missing}"
    )


def render_recordings(name: str, about: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    if not about:
        return [f"{name}: no recording can be opened"]
    seconds = ", ".join(f"{key} {value:.3g}" for key, value in about["seconds"].items())
    rates = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in about["rates"].items())
    return [f"{name}, seconds: {seconds}; {about['hours']:.3g} hours in all", f"{name}, sample rates: {rates}"]
