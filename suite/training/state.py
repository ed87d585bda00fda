"""State of a training: everything that a step changes, and the names that its parts have in a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

STORED = {"model_state": "rest"}
"""Field -> its name in a checkpoint, where that is another: the names that checkpoints have had since the first."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that training changes. Nested dicts of arrays, so that a step costs little Python.

    Attributes:
        step: () int32, optimiser steps taken.
        params: trainable parameters, float32.
        model_state: the model's other variables (running statistics).
        opt: optimiser state.
        ema: moving average of ``params``, or None.
        rule_state: state of the gradient rule, or None.
    """

    step: Any
    params: Any
    model_state: Any
    opt: Any
    ema: Any
    rule_state: Any = None


def to_stored(state: State) -> dict[str, Any]:
    """The state, or what describes its arrays, as a checkpoint holds it. A rule without state leaves nothing there."""
    stored = {STORED.get(name, name): value for name, value in vars(state).items()}
    if stored["rule_state"] is None:
        del stored["rule_state"]
    return stored


def from_stored(stored: Mapping[str, Any]) -> State:
    """The inverse of `to_stored`."""
    fields = {name: field for field, name in STORED.items()}
    return State(**{fields.get(name, name): value for name, value in stored.items()})
