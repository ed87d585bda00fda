"""Experiment: one typed value that says everything about a run. Objects, not files; fork, don't inherit."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search for the goal may cost at most."""

    trials: int = 20
    """Trainings."""
    hours: float = 0.0
    """Hours, of all trials together; one that has begun is finished. 0: no limit."""


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


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The quality a recipe must reach."""

    metric: str = "accuracy"
    """Name of the metric."""
    at_least: float = 0.0
    """Value to reach, where higher is better."""
    at_most: float | None = None
    """Value not to pass, where lower is better; at_least then says nothing."""
    on: str = "validation"
    """Split it is measured on. A search decides by validation all the same, and looks at another split once."""
    budget: Budget = field(default_factory=Budget)
    """What suite tune may spend to reach it."""

    @property
    def bound(self) -> float:
        """The value to reach, or not to pass."""
        return self.at_least if self.at_most is None else self.at_most

    def met(self, value: float) -> bool:
        """Whether a value of the metric is good enough."""
        return value >= self.at_least if self.at_most is None else value <= self.at_most

    def __str__(self) -> str:
        return f"{self.on}/{self.metric} {'>=' if self.at_most is None else '<='} {self.bound}"
