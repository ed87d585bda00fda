"""Search space: fields and values checked against the recipe before any trial.

A recipe's own value may lie outside: the first trial has it all the same, and no other.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suite.errors import InputError
from suite.experiment.former_names import current_field
from suite.experiment.goal import Choice, Range
from suite.experiment.sections import Experiment, replace
from suite.experiment.serialization import to_json

WIDTH = 5.0
"""Without a space the learning rate is searched, from a fifth to five times the recipe's own."""
FIXED = ("name", "goal", "search")
"""Sections that say what a search is for."""


@dataclass(frozen=True)
class Dimension:
    """A field that a search changes.

    Attributes:
        field: its dotted name.
        own: the recipe's value.
        values: what it may be.
    """

    field: str
    own: Any
    values: Range | Choice

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of a Choice as texts, which any database holds, and which tell 1, 1.0 and True apart."""
        return tuple(map(label, self.values.among)) if isinstance(self.values, Choice) else ()

    @property
    def inside(self) -> bool:
        """Whether the recipe's own value is among them."""
        if isinstance(self.values, Choice):
            return label(self.own) in self.labels
        fits = isinstance(self.own, int | float) and self.values.low <= self.own <= self.values.high
        return fits and (not self.values.whole or float(self.own).is_integer())

    @property
    def stored(self) -> Any:
        """The recipe's own value as a database holds it, if it is inside."""
        if isinstance(self.values, Choice):
            return label(self.own)
        return int(self.own) if self.values.whole else float(self.own)

    def read(self, stored: Any) -> Any:
        """The value that a database holds."""
        return self.values.among[self.labels.index(stored)] if isinstance(self.values, Choice) else stored

    def __str__(self) -> str:
        if isinstance(self.values, Choice):
            return f"{self.field}: {', '.join(self.labels)}"
        how = ", ".join(["by factors"] * self.values.log + ["whole numbers"] * self.values.whole)
        return f"{self.field}: {self.values.low:g} to {self.values.high:g}{how and f' ({how})'}"


def label(value: Any) -> str:
    """A value of a Choice as text."""
    return json.dumps(to_json(value))


def shown(values: Mapping[str, Any]) -> str:
    """Fields and values for people: ``optim.learning_rate 0.00123, model.dropout 0.1``."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def dimensions(experiment: Experiment) -> tuple[Dimension, ...]:
    """The search space of a recipe, checked.

    Raises:
        InputError: a field that there is not, or that says what the search is for; a value that is none of its field.
    """
    rate = experiment.optim.learning_rate
    space = experiment.search.space or (
        Range(field="optim.learning_rate", low=rate / WIDTH, high=rate * WIDTH, log=True),
    )
    fields = [part.field for part in space]
    twice = next((name for name in fields if fields.count(name) > 1), None)
    if twice:
        raise _refused(twice, "is there twice.", fix="one Range or Choice a field")
    return tuple(_dimension(experiment, part) for part in space)


def _dimension(experiment: Experiment, part: Range | Choice) -> Dimension:
    *path, last = current_field(part.field).split(".")
    owner: Any = experiment
    for name in path:
        owner = _value(owner, name)
    own = _value(owner, last)
    replace(experiment, {part.field: own})  # names the nearest field where there is no such
    if current_field(part.field).split(".")[0] in FIXED:
        raise _refused(part.field, "says what the search is for, so no search changes it.")
    kinds = (type(own),) if isinstance(owner, Mapping) else _kinds(typing.get_type_hints(type(owner))[last])
    if isinstance(part, Choice):
        return _choice(part, own, kinds)
    _check_range(part, own, kinds)
    return Dimension(part.field, own, part)


def _value(owner: Any, name: str) -> Any:
    return owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)


def _choice(part: Choice, own: Any, kinds: tuple[Any, ...]) -> Dimension:
    """Where the field is a float, 1 is 1.0: one value, not two."""
    if not part.among:
        raise _refused(part.field, "has no values to choose from.", fix="among=(1, 2)")
    wrong = [value for value in part.among if not _fits(value, kinds)]
    if wrong:
        raise _refused(part.field, f"cannot be {wrong[0]!r}.", found=_named(kinds), fix=f"values like its own, {own!r}")
    dimension = Dimension(
        part.field,
        _plain(own, kinds),
        dataclasses.replace(part, among=tuple(_plain(value, kinds) for value in part.among)),
    )
    twice = next((text for text in dimension.labels if dimension.labels.count(text) > 1), None)
    if twice:
        raise _refused(part.field, f"has the value {twice} twice.")
    return dimension


def _check_range(part: Range, own: Any, kinds: tuple[Any, ...]) -> None:
    low, high = part.low, part.high
    if not {int, float} & set(kinds):
        raise _refused(
            part.field,
            f"is no number, so it has no range: {own!r}.",
            found=_named(kinds),
            fix=f'Choice(field="{part.field}", among=(...))',
        )
    if float not in kinds and not part.whole:
        raise _refused(part.field, f"is a whole number: {own!r}.", fix=f'Range(field="{part.field}", whole=True, ...)')
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _refused(part.field, f"has no range from {low:g} to {high:g}.", fix="low less than high")
    if part.log and low <= 0:
        raise _refused(part.field, f"cannot be searched by factors from {low:g}.", fix="low above 0, or log=False")
    if part.whole and not (float(low).is_integer() and float(high).is_integer()):
        raise _refused(part.field, f"has whole numbers only, and runs from {low:g} to {high:g}.", fix="whole bounds")


def _refused(field: str, problem: str, *, found: str = "", fix: str = "") -> InputError:
    return InputError(f"field search.space, {field}", problem, found=found, fix=fix)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _fits(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a value is of one of these annotations."""
    return any(_is(value, kind) for kind in kinds)


def _is(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and Ellipsis in parts else parts
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(_fits(item, _kinds(part)) for item, part in zip(value, kinds, strict=True))
        )
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _plain(value: Any, kinds: tuple[Any, ...]) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and float in kinds and int not in kinds else value


def _named(kinds: tuple[Any, ...]) -> str:
    """Annotations for people."""
    return "one of " + ", ".join(_name(kind) for kind in kinds) if len(kinds) > 1 else _name(kinds[0])


def _name(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
