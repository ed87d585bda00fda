"""Trains the toy task, or goes on with it; run as a script by test_resume. Appends each dispatch's ids to a file."""

import sys
from pathlib import Path

import suite
from suite.experiment.sections import replace
from tests import toy
from tests.training.noting import noting

STEPS = 300


def experiment(workers: int):
    """Steps in dispatches of two; saves every ten steps, large enough to be caught at it."""
    return replace(
        toy.experiment(),
        {
            "train.steps": STEPS,
            "train.steps_per_dispatch": 2,
            "train.eval_every": 100,
            "train.log_every": 50,
            "model.width": 20_000,
            "checkpoint.every": 10,
            "pipeline.workers": workers,
        },
    )


def main(folder: Path, ids: Path, workers: int, pause: float) -> None:
    note = noting(ids, pause)
    if (folder / "experiment.json").exists():
        suite.resume(folder, allow=("tests",), on_dispatch=note)
    else:
        suite.train(experiment(workers), folder, on_dispatch=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
