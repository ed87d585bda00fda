"""Baseline: a model of classical statistics that answers the same records as a network, for comparison."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from suite.contracts.batch import Columns

Rows = Mapping[str, Any]
"""What `Task.encode` makes of records, without augmentation: arrays (b, ...) or Ragged."""


class Baseline(ABC):
    """A cheap model of a task: fitted on the host to the training split, then asked for a split's outputs.

    Its outputs have the form of `Task.evaluate`'s, so that `Task.score` measures both alike and their differences are
    paired. It is deterministic: the same records give the same outputs.
    """

    most: int = 0
    """Most training records it should be fitted to; of more, a seeded draw. 0: all."""

    @abstractmethod
    def add(self, columns: Columns, rows: Rows) -> None:
        """Take in some training records, as the data holds them and encoded.

        Raises:
            InputError: a record cannot be read.
        """

    @abstractmethod
    def fit(self) -> str:
        """Fit to the records that were added.

        Returns:
            What was chosen and what was left out, such as ``"81,972 n-grams of words, C 10"``, for a person to read.

        Raises:
            InputError: a package is missing.
        """

    @abstractmethod
    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        """What `Task.evaluate` would give for these records, each array (b, ...)."""
