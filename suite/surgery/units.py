"""Units of a model: layers found by the PRUNING table of its family, with the arrays that make and use each unit.

A unit is what can be taken out of a layer whole: a value inside a feed-forward layer, an attention head, a channel
between two convolutions. It is a slice of each array that makes it and of each that uses it; without these slices the
rest computes what it did with the unit at zero. A table says so once, and `suite.compression.structured` runs every
table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from suite.contracts.units import Axis, Units
from suite.weights.imports import pattern


@dataclass(frozen=True)
class Layer:
    """The units of one layer of a model: paths and axes as in `Units`, of the arrays that there are.

    Attributes:
        units: their kind.
        place: the number ``{i}``, 0 where there is none.
        made: the arrays that make them.
        used: the arrays that use them.
        count: how many there are.
    """

    units: Units
    place: int
    made: tuple[Axis, ...]
    used: tuple[Axis, ...]
    count: int

    @property
    def name(self) -> str:
        """The path of the first array without its own name, for people."""
        return self.made[0][0].rpartition("/")[0]

    def narrowed(self, config: Any, count: int) -> Any:
        """``config`` with ``count`` units in this layer, and in all others that its field speaks of."""
        return self.units.narrowed(config, count, self.place)


def layers(config: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    """The layers of a model that have units, by ``config.prunable``.

    Args:
        config: the model's.
        shapes: path -> shape of its variables, parameters or not.
    """
    return [layer for units in config.prunable for layer in _of(units, config, shapes)]


def _of(units: Units, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    layers_of = []
    for path in shapes:
        match = pattern(units.made[0][0]).match(path)
        if match is None:
            continue
        numbers = {name: int(number) for name, number in match.groupdict().items()}
        making, used = (
            [(_filled(template, numbers), axis) for template, axis in part] for part in (units.made, units.used)
        )
        making, used = ([entry for entry in part if entry[0] in shapes] for part in (making, used))
        count = shapes[path][units.made[0][1]] if units.count is None else units.count(config)
        if used:
            layers_of.append(Layer(units, numbers.get("i", 0), tuple(making), tuple(used), count))
    return sorted(layers_of, key=lambda layer: [int(part) if part.isdecimal() else 0 for part in layer.name.split("/")])


def _filled(template: str, numbers: Mapping[str, int]) -> str:
    """A template with the numbers of a layer in it."""
    return re.sub(r"\{(\w+)(\+1)?\}", lambda match: str(numbers[match[1]] + (match[2] is not None)), template)


def hidden(layers: str) -> Units:
    """The hidden units of a stack of linear layers at ``layers``, each feeding the next."""
    return Units(
        kind="hidden",
        field="hidden",
        made=((f"{layers}/{{i}}/kernel", 1), (f"{layers}/{{i}}/bias", 0)),
        used=((f"{layers}/{{i+1}}/kernel", 0),),
    )


def feed_forward(block: str) -> Units:
    """The values inside the `suite.nn.FeedForward` (or what has its parts) at ``block``."""
    return Units(
        kind="feed_forward",
        field="feed_forward",
        made=(
            (f"{block}/up/kernel", 1),
            (f"{block}/gate/kernel", 1),
            (f"{block}/up/bias", 0),
            (f"{block}/gate/bias", 0),
        ),
        used=((f"{block}/down/kernel", 0),),
    )


def heads(attention: str, size: str = "width", besides: tuple[Axis, ...] = ()) -> Units:
    """The heads of the attention at ``attention``, each with the queries that share its key where they do.

    Args:
        attention: path of a `suite.nn.SelfAttention`, or of what has its parts.
        size: the field that ``heads`` divides where the config's ``head_width`` is 0.
        besides: arrays that make a head too.
    """

    def fewer(config: Any, count: int, place: int) -> Any:
        del place
        groups = getattr(config, "kv_heads", 0)
        shared = config.heads // groups if groups else 1
        changes = {"heads": count * shared, "head_width": config.head_width or getattr(config, size) // config.heads}
        return replace(config, **changes, **({"kv_heads": count} if groups else {}))

    parts = ("query", "key", "value")
    return Units(
        kind="heads",
        field="heads",
        made=(
            *((f"{attention}/{part}/kernel", 1) for part in parts),
            *((f"{attention}/{part}/bias", 0) for part in parts),
            *besides,
        ),
        used=((f"{attention}/out/kernel", 0),),
        count=lambda config: getattr(config, "kv_heads", 0) or config.heads,
        fewer=fewer,
        multiple=1,
    )
