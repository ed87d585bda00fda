"""Explanation: what one answer is owed to, unit by unit, with what it is an explanation of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.contracts.division import Division

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
    """

    target: str
    name: str
    place: int
    score: float
    blank: float

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
        return completeness(self.values, self.subject)

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
                "attribution": _rounded(value),
                **({} if self.errors is None else {"standard_error": _rounded(self.errors[place])}),
            }
            for place, (unit, value) in enumerate(zip(self.division.units, self.values, strict=True))
        ]
        missed = {} if math.isnan(self.completeness) else {"completeness_error": _rounded(self.completeness)}
        return {
            "method": self.method,
            "explained": about.target,
            "score": _rounded(about.score),
            "blank_score": _rounded(about.blank),
            "blank": self.division.about,
            **missed,
            "remarks": list(self.remarks),
            "attributions": units,
        }

    def lines(self, most: int = 12) -> list[str]:
        """For a terminal: the units of the largest size first, a line each."""
        about = self.subject
        lines = [
            f"{self.method} of {about.target}: {about.score:.4g}, and {about.blank:.4g} with everything absent",
            f"  {self.division.about}",
        ]
        order = np.argsort(-np.abs(self.values), kind="stable")[:most]
        width = max((len(self.division.units[place].name) for place in order), default=0)
        largest = float(np.abs(self.values).max(initial=0)) or 1.0
        for place in order:
            error = "" if self.errors is None else f" ± {self.errors[place]:.2g}"
            bar = "█" * round(20 * abs(self.values[place]) / largest)
            unit = self.division.units[place]
            lines.append(f"  {unit.name:{width}}  {self.values[place]:+10.4g}{error}  {bar}".rstrip())
        if len(self.values) > most:
            lines.append(f"  and {len(self.values) - most} more")
        if not math.isnan(self.completeness):
            lines.append(f"  completeness error {self.completeness:.2%}")
        return [*lines, *(f"  {remark}" for remark in self.remarks)]


def completeness(values: np.ndarray, subject: Subject) -> float:
    """By which share of the difference of scores the sum of ``values`` misses it."""
    return float(abs(values.sum() - subject.difference) / max(abs(subject.difference), 1e-12))


def incomplete(missed: float, effort: str) -> tuple[str, ...]:
    """The remark on attributions that miss the difference of scores by more than `COMPLETE`."""
    return () if missed <= COMPLETE else (f"the attributions miss the difference of scores by {missed:.1%} {effort}",)


def _rounded(value: float) -> float:
    return float(f"{float(value):.6g}")


def told(names: Sequence[str], place: int, kind: str, target: str) -> tuple[str, str]:
    """What the number is called that is explained, and the name of the class.

    Args:
        names: of the classes; empty of an event or a number.
        place: of the class.
        kind: key of what `Task.explained` gives.
        target: name of the first output.
    """
    if kind == "value":
        return target, ""
    if not names:
        return "the log odds of the event", ""
    return f'the log odds of "{names[place]}"', str(names[place])
