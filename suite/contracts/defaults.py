"""Defaults: what a recipe leaves to the data, chosen once by a look at the training split."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Source


@dataclass(frozen=True)
class Chosen:
    """A value for a field that the recipe leaves open.

    Attributes:
        field: dotted name in the experiment, such as ``train.epochs``.
        value: what it becomes. None takes something out that the recipe states: an entry of a mapping, such as
            ``model.parts.image``, or the value of a field that may be None. An entry that a mapping does not have is
            added to it.
        why: what in the data speaks for it, for a person to read; empty: it is not told.
    """

    field: str
    value: Any
    why: str = ""


class Defaults(ABC):
    """Values for the open fields of an experiment: those left at 0, "", () or None.

    A frozen dataclass, named by ``experiment.defaults``. It is asked once, when a run begins and before preprocessors
    are fitted. A field that the recipe or a flag states is left alone. The stored experiment holds the values, so that
    a run that goes on has no choice to make.
    """

    @abstractmethod
    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        """The choices, in the order in which they are told. They depend on nothing but the arguments.

        Args:
            experiment: the `suite.experiment.sections.Experiment`.
            train: cleaned records of the training split, as ``task.source("train")`` gives them.
        """


def batch_size(records: int, batches: int, least: int, most: int) -> int:
    """The largest power of two, within bounds, of which the training split makes so many ``batches`` or more."""
    return min(max(1 << int(math.log2(max(records / batches, 1))), least), most)
