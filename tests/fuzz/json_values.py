"""JSON values that are nearly right: what a fuzzer makes of good ones."""

import copy
import json
from typing import Any

import numpy as np

from tests.fuzz.mutations import mutated

STRANGE = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**30, 10**39, -(10**39), 0.5, -0.0, 1e308, float("nan"),
    float("inf"),
    "", "x", "gelu", "9" * 300, "\u0000", "\ud800", "../../etc/passwd", "class", [], {}, [[]], [None], [1, 2], [""],
    {"class": "os.system"}, {"value": 1}, [[[[[[[[]]]]]]]], {"": {"": {}}}, ["b", "length"], list(range(50)),
)  # fmt: skip
"""Values that take the place of others."""


def changed(value: Any, generator: np.random.Generator) -> Any:
    """``value``, an object or an array, with one to three of its parts replaced, left out, doubled or exchanged."""
    whole = copy.deepcopy(value)
    for _ in range(int(generator.integers(1, 4))):
        places = [(outer, key) for outer in _containers(whole) for key in _keys(outer)]
        if not places:
            return whole
        outer, key = places[int(generator.integers(len(places)))]
        match int(generator.integers(5)):
            case 0:
                del outer[key]
            case 1:
                other, place = places[int(generator.integers(len(places)))]
                outer[key] = copy.deepcopy(other[place])
            case 2 if isinstance(outer, list):
                outer.insert(key, copy.deepcopy(outer[key]))
            case 3 if isinstance(outer, dict):
                outer[f"{key}x"] = outer.pop(key)
            case _:
                outer[key] = copy.deepcopy(STRANGE[int(generator.integers(len(STRANGE)))])
    return whole


def text(value: Any, generator: np.random.Generator) -> bytes:
    """A JSON file of the changed value; of three, one whose bytes are damaged."""
    if generator.random() < 1 / 3:
        return mutated(json.dumps(value).encode(), generator)
    return json.dumps(changed(value, generator)).encode()


def _containers(value: Any) -> list[Any]:
    found, left = [], [value]
    while left:
        item = left.pop()
        if isinstance(item, dict | list):
            found.append(item)
            left += item.values() if isinstance(item, dict) else item
    return found


def _keys(container: Any) -> list[Any]:
    return list(container) if isinstance(container, dict) else list(range(len(container)))
