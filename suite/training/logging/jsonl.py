"""metrics.jsonl: the lines that a run has logged, one a step, and the table that they make."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.runtime.files import write_text, written_at

METRICS = "metrics.jsonl"


class Lines:
    """Lines appended to a file. What the disk has no room for is kept, and written with the lines to come.

    Raises:
        InputError: a folder stands there.
    """

    def __init__(self, path: Path):
        with written_at(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pending = b""

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: it could not be written; so far.
        """
        self._pending += json.dumps(line).encode() + b"\n"
        while self._pending:  # a disk that fills up takes the beginning of a line
            self._pending = self._pending[os.write(self._file, self._pending) :]

    def close(self) -> None:
        """Write what is kept, where there is room now.

        Raises:
            OSError: there is none; those lines are lost.
        """
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._file, self._pending) :]
        finally:
            os.close(self._file)


def history(folder: Path | str) -> dict[str, list[Any]]:
    """The table of metrics.jsonl: column -> one value a line, None where the line lacks it; ``"step"`` comes first.

    A run folder without metrics has one empty column, ``"step"``.
    """
    path = Path(folder) / METRICS
    rows = _rows(path)
    names = dict.fromkeys(["step", *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(path: Path) -> list[dict[str, Any]]:
    """Lines that are whole, a step and numbers: a process that was killed may have left half of its last one."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and all(map(_is_number, row.values())):
            rows.append(row)
    return rows


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def cut(path: Path, step: int) -> None:
    """Drop lines after ``step``, leaving either the old file or the new one whenever the power goes."""
    if not path.is_file():
        return
    rows = [row for row in _rows(path) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
