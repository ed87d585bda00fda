"""Range of the scores of pairs, learnt from the training split, so that a cosine of 1 stands for the highest."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.data import Source
from suite.contracts.preprocessor import Preprocessor
from suite.data.preprocessing.tabular_values import numbers
from suite.data.preprocessing.target import with_targets
from suite.data.reading import changed
from suite.errors import InputError
from suite.runtime import json_files

_FIX = "correct the record, or name another column: --task.similarity COLUMN"


@dataclass(frozen=True, kw_only=True)
class ScoreRange(Preprocessor):
    """The lowest and the highest score of the training split; nothing where the task has no column of scores."""

    suffix: ClassVar[str] = ".json"

    column: str = "similarity"
    """Field of the task that names the column of scores."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the range to ``path``.

        Raises:
            InputError: a score is no number, or all are equal.
        """
        low, high, style = 0.0, 1.0, ""
        if column:
            style = source.styles.get(column, "")
            values = numbers(source.column(column, np.arange(len(source))), column, style, _FIX)
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            if not low < high:
                problem = "has the same score for all pairs, so that none is to be nearer than another."
                raise InputError(f"column {column}", problem, found=f"{low:g}", fix="--task.similarity ''")
        path.write_text(json.dumps({"low": low, "high": high, "style": style}), encoding="utf-8")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest score."""
        content = _stored(self.file, changed(self.file))
        return content["low"], content["high"]

    def sizes(self) -> dict[str, int]:
        """None."""
        return {}

    def known(self, source: Source, column: str) -> Source:
        """The records that have a score; the others are dropped and counted."""
        style = _stored(self.file, changed(self.file))["style"] if self.file else source.styles.get(column, "")
        return with_targets(source, column, style)

    def encode(self, values: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Scores (b,) float32, 0 the lowest of training and 1 the highest."""
        (low, high), style = self.bounds, _stored(self.file, changed(self.file))["style"]
        return ((numbers(values, "of scores", style, _FIX) - low) / (high - low)).astype(np.float32)

    def decode(self, cosines: np.ndarray) -> np.ndarray:
        """Cosines (n,) as scores."""
        low, high = self.bounds
        return low + np.asarray(cosines, np.float64) * (high - low)


@functools.lru_cache(maxsize=8)
def _stored(file: str, written: int) -> dict[str, Any]:
    return json_files.read_object(file)
