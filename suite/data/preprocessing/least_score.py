"""Least score: from which on a detected box is answered, learnt on the validation split at the end of training."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from suite.contracts.preprocessor import Postprocessor
from suite.data.reading import changed
from suite.runtime import json_files

UNLEARNT = 0.3
"""The least score where none was learnt."""


@dataclass(frozen=True, kw_only=True)
class LeastScore(Postprocessor):
    """The score above which boxes are answered: that of the best F1, at an intersection over union of 0.5."""

    suffix: ClassVar[str] = ".json"

    @property
    def value(self) -> float:
        """The score; `UNLEARNT` before the end of training."""
        return float(self._content.get("score", UNLEARNT))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._content.get("notes", ()))

    @property
    def _content(self) -> dict[str, Any]:
        return _learnt(self.file, changed(self.file)) if self.file else {}


@functools.lru_cache(maxsize=8)
def _learnt(file: str, written: int) -> dict[str, Any]:
    return json_files.load(file, _checked)


def _checked(content: Any) -> dict[str, Any]:
    score, notes = content["score"], json_files.texts(content["notes"])
    if not (isinstance(score, int | float) and 0 <= score <= 1):
        raise json_files.Malformed(f"score {score!r:.60}")
    return {"score": score, "notes": notes}
