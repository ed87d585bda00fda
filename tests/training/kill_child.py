"""Trains the small model of a family, or goes on with it; run as a script by test_kills.

Appends each step and its ids to a file before it is trained on. Exit codes as of the command line.
"""

import sys
from pathlib import Path

import suite
from suite.cli.app import INTERRUPTED
from tests.families import small
from tests.training.noting import noting


def main(family: str, folder: Path, ids: Path, pause: float) -> None:
    note = noting(ids, pause)
    try:
        if (folder / "experiment.json").exists():
            suite.resume(folder, on_dispatch=note)
        else:
            suite.train(
                small(
                    family,
                    train__steps=300,
                    train__log_every=20,
                    train__eval_every=100,
                    checkpoint__every=10,
                    checkpoint__keep=3,
                ),
                folder,
                on_dispatch=note,
            )
    except suite.Interrupted:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
