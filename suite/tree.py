"""Nested dicts of arrays under the names people write: ``"encoder/layers/0/kernel"``."""

from collections.abc import Callable, Mapping
from typing import Any


def paths(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Every leaf by its path: keys, integer ones too, joined with ``/``. An empty dict inside has no leaf."""
    flat: dict[str, Any] = {}
    map_paths(flat.__setitem__, tree)
    return flat


def nest(flat: Mapping[str, Any]) -> dict[Any, Any]:
    """The nested dict that ``paths`` flattened; a part made of digits alone becomes an integer key."""
    tree: dict[Any, Any] = {}
    for path, leaf in flat.items():
        *parents, name = [int(part) if part.isdecimal() else part for part in path.split("/")]
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def map_paths(function: Callable[[str, Any], Any], tree: Mapping[Any, Any], prefix: str = "") -> dict[Any, Any]:
    """A dict of the same structure, each leaf replaced by ``function(path, leaf)``."""
    mapped: dict[Any, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        mapped[key] = map_paths(function, value, path + "/") if isinstance(value, Mapping) else function(path, value)
    return mapped
