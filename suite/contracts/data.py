"""The contracts every domain fulfils: Source, Data, Preprocessor, Batch, MetricState, Codec, Task, ModelConfig.

Data flows one way: ``Data.open`` -> ``Source[indices]`` -> columns -> ``Task.encode`` -> ragged or dense
arrays -> the pipeline pads them into a ``Batch`` -> ``Task.loss`` or ``Task.predict`` (jitted) ->
``Task.score`` and ``Task.decode`` (host). The trainer knows these names and no domain.

This module loads neither JAX nor Flax: what answers requests may do without either.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass


class Source(ABC):
    """Records that can be read in any order, a batch of them at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, str]:
        """Column name -> what it holds: ``"text"``, ``"image"``, ``"class"``, ``"int"``, ``"float"``."""

    @abstractmethod
    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        """The records at ``indices`` (b,), by column."""

    def column(self, name: str, indices: np.ndarray) -> Any:
        """One column of the records at ``indices`` (b,); sources that need not read the others override it."""
        return self[indices][name]

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the values of each ``"class"`` column that carries them; a record then holds the integer."""
        return {}

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of records that cleaning left out."""
        return {}


class Data(ABC):
    """Where records come from: a frozen dataclass naming a file, a folder or a dataset, with its splits."""

    @abstractmethod
    def open(self, split: str) -> Source:
        """The records of ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            InputError: there is nothing to read, or no such split.
        """

    @property
    def origin(self) -> str:
        """Who made the records, and where they are from; empty where the data doesn't say."""
        return ""

    @property
    def licence(self) -> str:
        """What may be done with the records; empty where the data doesn't say."""
        return ""
