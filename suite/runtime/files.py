"""Experiment: one typed value that says everything about a run. Objects, not files; fork, don't inherit."""

import os
from pathlib import Path


def is_run(source: str | Path) -> bool:
    """Whether ``source`` is a run folder, rather than a bundle, published weights or nothing at all."""
    return (Path(source) / "experiment.json").is_file() and not is_bundle(source)


def is_bundle(source: str | Path) -> bool:
    """Whether ``source`` is a bundle, as suite export writes it."""
    return (Path(source) / "bundle.json").is_file()


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader, or a loss of power, sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
