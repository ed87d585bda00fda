"""Baselines of recommendation, without training: what is popular, and what occurs with the latest items."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Columns, Ragged
from suite.data.preprocessing.items import FIRST

PLACES = 50
"""Items that are ranked."""
DECAY = 0.6
"""Weight of an item of the history, to that of the one after it."""


class _Counted(Baseline):
    """Takes in histories and ranks the catalogue.

    Args:
        count: items.
        histories: places of the items of each training user, where training records are none; None: they are.
    """

    def __init__(self, count: int, histories: Sequence[np.ndarray] | None = None):
        self.count, self._given = count, histories is not None
        self.histories: list[np.ndarray] = list(histories or ())

    def add(self, columns: Columns, rows: Rows) -> None:
        if not self._given:
            self.histories += [row[row >= FIRST] - FIRST for row in _rows(rows["items"])]

    parts: np.ndarray | None = None
    """Split (n,) of each item, where a record ranks those of its own split, ``part``, alone."""

    @abstractmethod
    def scores(self, history: np.ndarray) -> np.ndarray:
        """Score (n,) of each item, by the items of a history (t,)."""

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        """``top`` (b, k) int32, ``hits`` (b, k) and ``unseen`` (b,)."""
        places = min(PLACES, self.count)
        top = np.zeros((len(rows["unseen"]), places), np.int32)
        hits = np.zeros(top.shape, bool)
        for place, (seen, targets) in enumerate(zip(_rows(rows["seen"]), _rows(rows["targets"]), strict=True)):
            scores = np.array(self.scores(seen - FIRST), np.float64)
            scores[seen - FIRST] = -np.inf
            if self.parts is not None:
                scores[self.parts != rows["part"][place]] = -np.inf
            best = np.argsort(-scores, kind="stable")[:places]
            top[place] = np.where(np.isfinite(scores[best]), best + FIRST, 0)
            hits[place] = np.isin(top[place], targets)
        return {"top": top, "hits": hits, "unseen": np.asarray(rows["unseen"])}


class Popularity(_Counted):
    """Items by the number of their training events."""

    def fit(self) -> str:
        self._counts = np.bincount(np.concatenate(self.histories), minlength=self.count)
        return ""

    def scores(self, history: np.ndarray) -> np.ndarray:
        return self._counts


class ItemCosine(_Counted):
    """Items by the cosine of who had them with who had those of the history, the latest counting most.

    Args:
        count, histories: see above.
        decay: weight of an item of the history, to that of the one after it.
    """

    def __init__(self, count: int, histories: Sequence[np.ndarray] | None = None, decay: float = DECAY):
        super().__init__(count, histories)
        self.decay = decay

    def fit(self) -> str:
        from scipy.sparse import csr_matrix, diags

        lengths = [len(history) for history in self.histories]
        user = np.repeat(np.arange(len(lengths)), lengths)
        item = np.concatenate(self.histories)
        had: Any = csr_matrix((np.ones(len(item), np.float32), (user, item)), (len(lengths), self.count))
        had.data[:] = 1  # an item that was had twice counts once
        norms = np.sqrt(np.maximum(np.asarray(had.sum(0)).ravel(), 1))
        unit = had.multiply(1 / norms[None, :]).tocsr()
        cosines: Any = (unit.T @ unit).tocsr()
        self._cosines = cosines - diags(cosines.diagonal(), format="csr")  # an item is not counted for itself
        return f"each item of a history counts {self.decay:g} of the next"

    def scores(self, history: np.ndarray) -> np.ndarray:
        if not len(history):
            return np.zeros(self.count)
        weights = self.decay ** np.arange(len(history) - 1, -1, -1)
        return np.asarray(weights @ self._cosines[history]).ravel()


class AttributeCosine(_Counted):
    """Items by the cosine of their attributes with the sum of those of the history.

    Args:
        count: items.
        attributes: weights (n, s) of the attributes of each, sparse, of rows of length 1.
        parts: see above.
    """

    def __init__(self, count: int, attributes: Any, parts: np.ndarray | None = None):
        super().__init__(count, ())
        self.attributes, self.parts = attributes, parts

    def fit(self) -> str:
        return ""

    def scores(self, history: np.ndarray) -> np.ndarray:
        if not len(history):
            return np.zeros(self.count)
        profile = np.asarray(self.attributes[history].sum(0)).ravel()
        return self.attributes @ profile


def _rows(values: Ragged) -> list[np.ndarray]:
    return np.split(np.asarray(values.values), np.cumsum(values.lengths)[:-1])
