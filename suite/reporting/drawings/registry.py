"""Registry of drawings: the blocks of a page that show an artifact, by its class."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from suite.contracts.artifact import Artifact
from suite.reporting.blocks import Block, Text

Drawing = Callable[[Any], Sequence[Block]]
D = TypeVar("D", bound=Drawing)

DRAWINGS: dict[type[Artifact], Drawing] = {}
"""Class of artifacts -> what draws them."""


def draws(*classes: type[Artifact]) -> Callable[[D], D]:
    """Register the decorated function as the drawing of artifacts of these classes, and of those made from them."""

    def register(drawing: D) -> D:
        DRAWINGS.update(dict.fromkeys(classes, drawing))
        return drawing

    return register


def drawn(artifact: Artifact) -> list[Block]:
    """The blocks that show an artifact: its own, else those of the drawing registered for its class."""
    own = list(artifact.blocks())
    if own:
        return own
    drawing = next((DRAWINGS[kind] for kind in type(artifact).__mro__ if kind in DRAWINGS), None)
    if drawing is None:
        return [Text(f"No drawing of {type(artifact).__name__} is known.", "note")]
    return list(drawing(artifact))
