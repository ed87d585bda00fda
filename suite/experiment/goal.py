"""Goal, budget and search space of an experiment."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from suite.contracts.metric_meaning import lower_is_better
from suite.errors import InputError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Unit of time -> seconds."""
UNITS = {
    **{unit: unit for unit in (*SECONDS, "trial")},
    **{"sec": "s", "second": "s", "min": "m", "minute": "m", "hr": "h", "hour": "h", "day": "d"},
}
"""What may be said of a budget, in the singular -> unit."""
TRIALS = 20
"""Trials of a search whose budget names neither trials nor a time in words."""


@dataclass(frozen=True, kw_only=True, init=False)
class Budget:
    """What a search may cost at most.

    ``Budget("20m")``, ``Budget("2h, 50 trials")`` and ``Budget(minutes=20)`` say the same in words; a time alone leaves
    the number of trials open.
    """

    trials: int = TRIALS
    """Trainings. 0: no limit but the time."""
    hours: float = 0.0
    """Hours, of all trials together: the first is always finished, a later one ends where they are spent. 0: no
    limit."""

    def __init__(self, text: str = "", *, trials: int | None = None, hours: float = 0.0, minutes: float = 0.0):
        """
        Args:
            text: times and trials, as ``"20m"`` or ``"1.5h, 30 trials"``.
            trials, hours: the fields.
            minutes: added to the hours.

        Raises:
            InputError: the text is no budget.
        """
        said, seconds = _budget(text) if text else (None, 0.0)
        timed = bool(text and seconds) or minutes > 0
        trials = said if said is not None else trials
        object.__setattr__(self, "trials", trials if trials is not None else 0 if timed else TRIALS)
        object.__setattr__(self, "hours", hours + minutes / 60 + seconds / 3600)


def _budget(text: str) -> tuple[int | None, float]:
    """Trials, where they are named, and seconds."""
    trials, seconds = None, 0.0
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", part)
        number, unit = (match[1], UNITS.get(match[2].removesuffix("s") or "s", "")) if match else ("", "")
        if unit in SECONDS:
            seconds += float(number) * SECONDS[unit]
        elif unit == "trial" and number.isdecimal() and int(number):
            trials = int(number)
        else:
            raise InputError(
                "flag --budget", f'"{part}" is neither a time nor a number of trials.', fix='--budget "20m, 50 trials"'
            )
    if trials is None and not seconds:
        raise InputError("flag --budget", f'"{text}" leaves nothing to spend.', fix="--budget 20m")
    return trials, seconds


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers that a search may give a field."""

    field: str
    """Dotted name, as of a flag: "optim.learning_rate"."""
    low: float
    """Least value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Whether factors count, and not differences: for rates and decays."""
    whole: bool = False
    """Whole numbers only."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Values that a search may give a field."""

    field: str
    """Dotted name, as of a flag."""
    among: tuple[Any, ...]
    """Numbers, texts, truth values or tuples of them."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is changed from trial to trial where a recipe misses its goal."""

    space: tuple[Range | Choice, ...] = ()
    """Fields and their values. Empty: the learning rate, from a fifth to five times the recipe's own."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial before its time: being worse than the middle one at the same step; successive halving
    (arXiv 1603.06560); or nothing."""
    seed: int = 0
    """Seeds the sampler (a tree-structured Parzen estimator)."""


COMPARISON = re.compile(r"(?:(validation|test)\s*/\s*)?([-\w./@]+?)\s*(?:(>=|<=)\s*(\S+))?")
"""A goal in words: split, metric, comparison, value."""


@dataclass(frozen=True, kw_only=True, init=False)
class Goal:
    """The quality a recipe must reach.

    ``Goal("accuracy>=0.9")``, ``Goal("test/wer<=10%")`` say it in words; ``Goal("accuracy")`` asks for the best that
    the budget allows.
    """

    metric: str = "accuracy"
    """Name of the metric."""
    at_least: float | None = 0.0
    """Value to reach, where higher is better. None, as at_most: the best that the budget allows."""
    at_most: float | None = None
    """Value not to pass, where lower is better; at_least then says nothing."""
    on: str = "validation"
    """Split it is measured on. A search decides by validation all the same, and looks at another split once."""
    budget: Budget = field(default_factory=Budget)
    """What suite tune may spend to reach it."""

    def __init__(
        self,
        text: str = "",
        *,
        metric: str = "accuracy",
        at_least: float | None = 0.0,
        at_most: float | None = None,
        on: str = "validation",
        budget: Budget | None = None,
    ):
        """
        Args:
            text: split, metric, comparison and value, as ``"accuracy>=0.9"``; it says all but the budget.
            metric, at_least, at_most, on, budget: the fields.

        Raises:
            InputError: the text is no goal.
        """
        if text:
            on, metric, at_least, at_most = _goal(text)
        values = {"metric": metric, "at_least": at_least, "at_most": at_most, "on": on, "budget": budget or Budget()}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """Of the metric, without the minus that an open goal may have for a metric that doesn't know its direction."""
        return self.metric.removeprefix("-")

    @property
    def open(self) -> bool:
        """Whether no value is to be reached: the best that the budget allows is."""
        return self.at_least is None and self.at_most is None

    @property
    def lower(self) -> bool:
        """Whether lower values are better."""
        return self.at_most is not None or (self.open and lower_is_better(self.metric))

    @property
    def bound(self) -> float:
        """The value to reach, or not to pass; nan where there is none."""
        bound = self.at_least if self.at_most is None else self.at_most
        return math.nan if bound is None else bound

    def met(self, value: float) -> bool:
        """Whether a value of the metric is good enough; where any is, there is no bound."""
        return self.open or (value <= self.bound if self.lower else value >= self.bound)

    def __str__(self) -> str:
        if self.open:
            return f"the best {self.on}/{self.name}"
        return f"{self.on}/{self.metric} {'<=' if self.lower else '>='} {self.bound}"


def _goal(text: str) -> tuple[str, str, float | None, float | None]:
    """Split, metric, at_least and at_most."""
    match = COMPARISON.fullmatch(text.strip())
    number = _number(match[4]) if match and match[4] else None
    if match is None or (match[3] and number is None):
        raise InputError(
            f'goal "{text}"',
            "is not a metric with >= or <= and a number, in quotes since a shell takes > for a redirection.",
            fix='--goal "accuracy>=0.9"',
        )
    # Papers write Recall@20 where a metric is called recall_20.
    on, metric, comparison = match[1] or "validation", match[2].replace("@", "_"), match[3]
    return on, metric, number if comparison == ">=" else None, number if comparison == "<=" else None


def _number(text: str) -> float | None:
    """A finite number, also in percent."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
