"""Batch: model-ready rows with a leading batch axis, and ragged rows before they are padded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Columns = Mapping[str, Any]
"""Raw records by column: each value an array or list with a leading axis of one entry a record."""

Batch = dict[str, Any]
"""Model-ready arrays with a leading batch axis, plus ``mask`` (b,) bool, False where a row is padding, and ``seed``
(b,) uint32, which the random numbers of each row's answer come from."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, before padding.

    Attributes:
        values: (n, ...) all rows end to end.
        lengths: (b,) rows' lengths; their sum is n.
        to: length that rows are padded to, for rows of a fixed scale. 0: the bucket of their axis, which the longest
            row of a batch decides.
        axis: name of the scale that the rows run on. Rows of one axis are padded to one length; each axis has buckets
            of its own. The default axis decides, besides, which records share a batch.
    """

    values: np.ndarray
    lengths: np.ndarray
    to: int = 0
    axis: str = ""

    def padded(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Dense (b, length, ...) values, zero after each row's end, and the (b, length) bool mask of what is real.

        Rows longer than ``length`` are cut at their end.
        """
        mask = np.arange(length) < np.asarray(self.lengths)[:, None]
        starts = np.concatenate([[0], np.cumsum(self.lengths)])[:-1]
        dense = np.zeros((len(self.lengths), length, *self.values.shape[1:]), self.values.dtype)
        dense[mask] = self.values[(starts[:, None] + np.arange(length))[mask]]
        return dense, mask
