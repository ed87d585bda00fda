"""Artifact: something of a split that a reader of a report should see, as data without a drawing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Artifact(ABC):
    """One thing to be seen."""

    @abstractmethod
    def __add__(self, other: Any) -> "Artifact":
        """The same of the records of both."""

    def blocks(self) -> Sequence[Any]:
        """What a report shows of it, as blocks of `suite.reporting.blocks`. Empty: the drawing that
        `suite.reporting.drawings.draws` registered for its class, as for all classes of this module."""
        return ()
