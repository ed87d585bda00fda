"""Sizes that a published config states: of the types that the model takes, and no larger than any model's."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from suite.contracts.model import ModelConfig

LARGEST = 1 << 24
"""The largest size that a published config states: of a vocabulary, a layer or a context."""
FEW = 64
"""Layers that are built whatever the tensors: which of them are missing is then told by name."""


def check(config: ModelConfig, tensors: int) -> None:
    """Raises ValueError or TypeError: sizes that no model has, or of another type. Building one would take hours, or
    all memory, to find out."""
    left: list[Any] = [config]
    while left:
        value = left.pop()
        if dataclasses.is_dataclass(value):
            for name, kind in typing.get_type_hints(type(value)).items():
                stated = getattr(value, name, None)
                allowed = {int: (int,), str: (str,), bool: (bool,), float: (int, float)}.get(kind, (object,))
                if not isinstance(stated, allowed):
                    raise TypeError(f"{name} {stated!r:.60} is no {kind.__name__}")
                left.append(stated)
        elif isinstance(value, list | tuple | Mapping):
            left += value.values() if isinstance(value, Mapping) else value
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"a size of {value:,}; at most {LARGEST:,}")
    if config.depth > max(FEW, tensors):
        raise ValueError(f"{config.depth:,} layers, and {tensors} tensors")
