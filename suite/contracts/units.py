"""Units: the PRUNING table of a model family names the arrays that make the units of a layer and those that use them.

A unit is a part of a layer that can be removed whole: a value inside a feed-forward layer, an attention head, a channel
between two convolutions. `suite.surgery.units` finds the units of a model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Axis = tuple[str, int]
"""Path of an array, ``{i}`` and ``{j}`` standing for the numbers of a layer and ``{i+1}`` for that of the next; and the
axis along which it has a slice for each unit."""


@dataclass(frozen=True, kw_only=True)
class Units:
    """One kind of units.

    Attributes:
        kind: what ``compression.prune.units`` calls it.
        field: field of the ModelConfig that says how many a layer has. Where it holds several numbers, layer ``{i}``
            has the one at place i.
        made: the arrays that make the units, trained or not (running statistics). The first is there in every layer
            and finds the layers; of the others each model may lack some, such as biases.
        used: the arrays that use them. What no array of the model uses, such as its outputs, are no units.
        count: units of a layer, of our config; None: one for each entry along the axis of the first array.
        fewer: (our config, units, i) to the config whose layers have so many; None: ``field`` says it all.
        multiple: what a number of units above it is rounded to, since processors work on so many at a time.
    """

    kind: str
    field: str
    made: tuple[Axis, ...]
    used: tuple[Axis, ...]
    count: Callable[[Any], int] | None = None
    fewer: Callable[[Any, int, int], Any] | None = None
    multiple: int = 8

    def narrowed(self, config: Any, count: int, place: int) -> Any:
        """``config`` with ``count`` units in the layer with the number ``place``."""
        if self.fewer is not None:
            return self.fewer(config, count, place)
        value = getattr(config, self.field)
        if isinstance(value, tuple):
            count = (*value[:place], count, *value[place + 1 :])  # type: ignore[assignment]
        return replace(config, **{self.field: count})
