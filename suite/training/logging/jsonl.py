"""metrics.jsonl: the lines that a run has logged, one a step, and the table that they make."""

import json
import os
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def history(folder: Path | str) -> dict[str, list[Any]]:
    """The table of metrics.jsonl: column -> one value a line, None where the line lacks it; ``"step"`` comes first.

    A run folder without metrics has one empty column, ``"step"``.
    """
    path = Path(folder) / METRICS
    rows = _rows(path.read_text(encoding="utf-8")) if path.exists() else []
    names = dict.fromkeys(["step", *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(text: str) -> list[dict[str, Any]]:
    """Lines that are whole: a process that was killed may have left half of its last one."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def cut(path: Path, step: int) -> None:
    """Drop lines after ``step``, leaving either the old file or the new one whenever the power goes."""
    if not path.exists():
        return
    rows = [row for row in _rows(path.read_text(encoding="utf-8")) if row["step"] <= step]
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
