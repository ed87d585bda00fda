"""Canaries: training records of which a coin of the run's key leaves out each second one, for `suite.audit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.data.sources.memory import Subset
from suite.errors import InputError
from suite.experiment.privacy import Privacy
from suite.training.privacy import key_words

COIN = 2**32 - 1
"""Sets the coins apart from the batches that the same key draws."""


@dataclass(frozen=True)
class Canaries:
    """Records of the training split.

    Attributes:
        places: (n,) of the canaries, rising.
        included: (n,) whether training has the record.
        other: (n,) of the canary whose value in ``privacy.canary_column`` each has instead of its own.
    """

    places: np.ndarray
    included: np.ndarray
    other: np.ndarray


def drawn(privacy: Privacy, folder: Path, size: int) -> Canaries:
    """The canaries of the run in ``folder``, of ``size`` records: the same at each call.

    Raises:
        InputError: there are not as many records.
    """
    if not 0 < privacy.canaries <= size:
        raise InputError(
            "field privacy.canaries",
            "must be a number of training records.",
            found=f"{privacy.canaries:,} of {size:,}",
            fix=f"--privacy.canaries {min(size, 1000)}",
        )
    rng = np.random.default_rng((*key_words(folder, privacy.key)[2:], COIN))
    places = np.sort(rng.choice(size, privacy.canaries, replace=False))
    included = rng.integers(0, 2, privacy.canaries).astype(bool)
    return Canaries(places, included, rng.permutation(places))


def changed(privacy: Privacy, canaries: Canaries, source: Source) -> Source:
    """All records, with the canaries as training and an audit have them.

    Raises:
        InputError: the column that is to be shuffled is not there.
    """
    column = privacy.canary_column
    if not column:
        return source
    if column not in source.schema:
        found = ", ".join(source.schema)
        raise InputError("field privacy.canary_column", f'column "{column}" is not there.', found=found)
    places = np.arange(len(source))
    places[canaries.places] = canaries.other
    return Exchanged(source, column, places)


class Exchanged(Subset):
    """All records of another source, but one column of each is that of the record at ``places`` (n,)."""

    def __init__(self, source: Source, column: str, places: np.ndarray):
        super().__init__(source, np.arange(len(source)))
        self._exchanged, self._places = column, places

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        columns = super().__getitem__(indices)
        return {**columns, self._exchanged: self.column(self._exchanged, indices)}

    def column(self, name: str, indices: np.ndarray) -> Any:
        places = np.asarray(indices)
        return super().column(name, self._places[places] if name == self._exchanged else places)


def trained_on(privacy: Privacy, folder: Path, source: Source) -> Source:
    """The records of a run without the canaries that a coin left out."""
    if not privacy.canaries:
        return source
    canaries = drawn(privacy, folder, len(source))
    return Subset(
        changed(privacy, canaries, source), np.setdiff1d(np.arange(len(source)), canaries.places[~canaries.included])
    )
