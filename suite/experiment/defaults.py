"""Open fields of an experiment, filled from its training data by the recipe's `Defaults`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from suite.contracts.data import Source
from suite.errors import InputError
from suite.experiment.sections import Experiment, replace


def settled(experiment: Experiment, train: Source) -> tuple[Experiment, list[str]]:
    """The experiment with its open fields chosen and no ``defaults`` any more; and what was chosen, a line each.

    Args:
        experiment: the recipe.
        train: cleaned records of the training split.

    Raises:
        InputError: a chosen field does not exist, or does not take the value.
    """
    if experiment.defaults is None:
        return experiment, []
    lines = []
    for chosen in experiment.defaults.choose(experiment, train):
        experiment, told = _with(experiment, chosen.field, chosen.value)
        if told and chosen.why:
            lines.append(f"  {told}: {chosen.why}")
    if lines:
        lines.insert(0, "chosen from the training data; a flag of the same name changes it:")
    return dataclasses.replace(experiment, defaults=None), lines


def _with(experiment: Experiment, field: str, value: Any) -> tuple[Experiment, str]:
    """The experiment with a field chosen, and what to tell of it; as it is where the field is stated already."""
    owner_name, _, name = field.rpartition(".")
    owner = _at(experiment, owner_name)
    if value is None:
        if isinstance(owner, Mapping):
            rest = {key: entry for key, entry in owner.items() if key != name}
            return replace(experiment, {owner_name: rest}), f"without {field}" if name in owner else ""
        return replace(experiment, {field: None}), f"without {field}"
    if isinstance(owner, Mapping) and name not in owner:  # an entry that is new, such as a part of the model
        return replace(experiment, {owner_name: {**owner, name: value}}), f"with {field}"
    if not is_open(_at(experiment, field)):
        return experiment, ""
    return replace(experiment, {field: value}), _flag(field, value)


def _flag(field: str, value: Any) -> str:
    """The flag that states a value; of a value that no flag writes, the field."""
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, int | float | str) for item in values):
        return field
    return f"--{field} {' '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in values)}"


def is_open(value: Any) -> bool:
    """Whether a field is left to the data: 0, 0.0, "", () or None."""
    return not isinstance(value, bool) and (value is None or value == 0 or value in ("", ()))


def _at(experiment: Experiment, field: str) -> Any:
    """The value of a field by its dotted name.

    Raises:
        InputError: there is no such field.
    """
    node: Any = experiment
    for name in field.split(".") if field else ():
        missing = name not in node if isinstance(node, Mapping) else not hasattr(node, name)
        if missing:
            raise InputError(f"field {field}", "is chosen by the recipe's defaults, and does not exist.")
        node = node[name] if isinstance(node, Mapping) else getattr(node, name)
    return node
