"""Names of speakers, learnt from the training split."""

import json
from dataclasses import dataclass
from pathlib import Path

from suite.contracts.data import Source
from suite.data.preprocessing.labels import Labels
from suite.errors import InputError, closest


@dataclass(frozen=True, kw_only=True)
class Speakers(Labels):
    """The speakers of the training split, which a model may be conditioned on; none where the task names no column."""

    column: str = "speaker"
    """Field of the task that names the column of speakers; that may be empty."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``. Raises InputError as `Labels` does, unless no column is named."""
        if column:
            super().fit(source, column, path)
        else:
            path.write_text(json.dumps({"names": [], "indexed": False, "counts": []}))

    @property
    def outputs(self) -> list[str]:
        return []

    def describe(self, source: Source, column: str) -> str:
        return super().describe(source, column) if column else ""

    def unseen(self, value: str) -> InputError:
        """The error that a speaker is none of training."""
        near = closest(value, self.names)
        known = f"{', '.join(self.names[:20])}{' ...' if len(self.names) > 20 else ''}"
        problem = f'"{value}" is no speaker of the training split.'
        return InputError("speaker", problem, found=known, fix=near or self.names[0])

    def sizes(self) -> dict[str, int]:
        """``speakers``: their number; nothing without any."""
        return {"speakers": len(self.names)} if self.names else {}
