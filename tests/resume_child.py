"""Trains the toy task, or goes on with it; run as a script by test_resume. Appends each dispatch's ids to a file."""

import os
import sys
import time
from pathlib import Path

import suite
from suite.config import replace
from tests import toy


def experiment(workers: int):
    """Six hundred steps in dispatches of two; saves every ten steps, large enough to be caught at it."""
    return replace(toy.experiment(), {
        "train.steps": 600, "train.steps_per_dispatch": 2, "train.eval_every": 100, "train.log_every": 50,
        "model.width": 20_000, "checkpoint.every": 10, "pipeline.workers": workers,
    })  # fmt: skip


def main(folder: Path, ids: Path, workers: int, pause: float) -> None:
    # One write a line, unbuffered: what is in the file was asked to be trained on, however the process ends.
    file = os.open(ids, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(item):
        rows = [",".join(map(str, row)) for row in item.indices.tolist()]
        os.write(file, "".join(f"{item.first + i} {row}\n" for i, row in enumerate(rows)).encode())
        time.sleep(pause)

    if (folder / "experiment.json").exists():
        suite.resume(folder, allow=("tests",), on_dispatch=note)
    else:
        suite.train(experiment(workers), folder, on_dispatch=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
