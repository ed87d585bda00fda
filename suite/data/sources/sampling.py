"""Fewer records of any data, drawn by a seed."""

from dataclasses import dataclass, replace

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.preprocessing.columns import origin
from suite.data.sources.memory import Subset
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sample(Data):
    """Some of the training records of other data; its other splits stay whole."""

    data: Data
    """Where the records come from."""
    examples: int = 0
    """Training records to draw, without repetition. 0: all."""
    seed: int = 0
    """Seeds the draw: the same seed gives the same records, in their own order."""

    @property
    def origin(self) -> str:
        """A name for messages."""
        return f"{self.examples} of {origin(self.data)}" if self.examples else origin(self.data)

    def with_classes(self, column: str) -> "Sample":
        return replace(self, data=self.data.with_classes(column))

    def with_texts(self, columns: tuple[str, ...]) -> "Sample":
        """The same sample, with these columns as texts."""
        return replace(self, data=self.data.with_texts(columns))

    def open(self, split: str) -> Source:
        """Records of a split.

        Raises:
            InputError: more records are asked for than there are.
        """
        source = self.data.open(split)
        if split != "train" or not self.examples:
            return source
        if not 0 < self.examples <= len(source):
            wanted = f"{self.examples} of {len(source)}"
            raise InputError(
                "field task.data.examples",
                "is no number of training records that can be drawn.",
                found=wanted,
                fix="--task.data.examples 0 takes all",
            )
        drawn = np.random.default_rng(self.seed).choice(len(source), self.examples, replace=False)
        return Subset(source, np.sort(drawn))
