"""Explanation: what one answer is owed to, unit by unit, with what it is an explanation of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.codecs.explained import completeness, rounded
from suite.contracts.division import Division, NumberScale

COMPLETE = 0.01
"""Share of the difference of scores up to which attributions may miss it and still be called complete."""


@dataclass(frozen=True)
class Subject:
    """What is explained of a record.

    Attributes:
        target: of which number, in words.
        name: of the class, label or goal; empty of a number.
        place: of it among the classes.
        score: the number, of the record as it is.
        blank: the number where all units are absent.
        scale: how what the model says is read as that number; None of log odds.
    """

    target: str
    name: str
    place: int
    score: float
    blank: float
    scale: NumberScale | None = None

    def read(self, learnt: Any) -> Any:
        """What the model says, of any shape, as the number that is explained."""
        return learnt if self.scale is None else self.scale.read(learnt)

    @property
    def summary(self) -> str:
        """What is explained and its two values, for people."""
        return f"{self.target}: {scores(self.score, self.blank)}"

    @property
    def difference(self) -> float:
        """What all units together are owed."""
        return self.score - self.blank


@dataclass(frozen=True)
class Explanation:
    """Attributions of one record by one method.

    Attributes:
        method: its name.
        subject: what is explained.
        division: the units, and what stands for an absent one.
        values: (u,) of each unit, in the unit of the score where ``additive``, else without one.
        additive: whether they are to add up to the difference of scores.
        errors: (u,) standard errors; None where nothing is drawn.
        maps: encoded array -> attribution of each of its elements, as the model is given it.
        remarks: what a reader must know, a line each.
    """

    method: str
    subject: Subject
    division: Division
    values: np.ndarray
    additive: bool = True
    errors: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def completeness(self) -> float:
        """By which share of the difference of scores the attributions miss it; nan where they need not reach it."""
        if not self.additive:
            return math.nan
        return completeness(self.values, self.subject.difference)

    @property
    def order(self) -> np.ndarray:
        """Places of the units, the largest value first: what speaks most for the answer."""
        return np.argsort(-self.values, kind="stable")

    def to_json(self) -> dict[str, Any]:
        """As ``suite explain --json`` prints it."""
        about = self.subject
        units = [
            {
                "unit": unit.name,
                "column": unit.column,
                **({"place": [round(float(side), 4) for side in unit.place]} if unit.place else {}),
                "attribution": rounded(value),
                **({} if self.errors is None else {"standard_error": rounded(self.errors[place])}),
            }
            for place, (unit, value) in enumerate(zip(self.division.units, self.values, strict=True))
        ]
        missed = {} if math.isnan(self.completeness) else {"completeness_error": rounded(self.completeness)}
        return {
            "method": self.method,
            "explained": about.target,
            "score": rounded(about.score),
            "blank_score": rounded(about.blank),
            "blank": self.division.about,
            **missed,
            "remarks": list(self.remarks),
            "attributions": units,
        }

    def lines(self, most: int = 12) -> list[str]:
        """For a terminal: the units of the largest size first, a line each."""
        units = [unit.name for unit in self.division.units]
        lines = [f"{self.method} of {self.subject.summary}", f"  {self.division.about}"]
        lines += listed(units, self.values, self.errors, most)
        if not math.isnan(self.completeness):
            lines.append(complete(self.completeness))
        return [*lines, *(f"  {remark}" for remark in self.remarks)]


def scores(score: float, blank: float) -> str:
    """The number of a record and of the blank, for people."""
    return f"{shown(score)}, and {shown(blank)} with everything absent"


def listed(units: Sequence[str], values: np.ndarray, errors: np.ndarray | None = None, most: int = 12) -> list[str]:
    """Lines for a terminal of the units of the largest size, and how many more there are.

    Args:
        units: their names.
        values: (u,) attributions.
        errors: (u,) standard errors.
        most: units that get a line.
    """
    order = np.argsort(-np.abs(values), kind="stable")[:most]
    width = max((len(units[place]) for place in order), default=0)
    largest = float(np.abs(values).max(initial=0)) or 1.0
    lines = []
    for place in order:
        error = "" if errors is None else f" ± {errors[place]:.2g}"
        bar = "█" * round(20 * abs(values[place]) / largest)
        lines.append(f"  {units[place]:{width}}  {shown(values[place], '+'):>10}{error}  {bar}".rstrip())
    more = len(values) - len(order)
    return [*lines, f"  and {more:,} more"] if more else lines


def complete(missed: float) -> str:
    """The line on how far attributions miss the difference of scores."""
    return f"  completeness error {missed:.2%}"


def shown(value: float, sign: str = "") -> str:
    """A number of four digits, or as a large whole one."""
    return f"{value:{sign},.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:{sign}.4g}"


def incomplete(missed: float, effort: str) -> tuple[str, ...]:
    """The remark on attributions that miss the difference of scores by more than `COMPLETE`."""
    return () if missed <= COMPLETE else (f"the attributions miss the difference of scores by {missed:.1%} {effort}",)
