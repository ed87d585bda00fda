"""`suite train` as the command line runs it, a pause at each dispatch; run as a script by test_interruption.

Appends each dispatch's ids to a file: ids, pause, then the arguments of the command line.
"""

import signal
import sys

from suite.cli import app
from suite.experiment.sections import replace
from suite.runs import verbs
from tests import toy
from tests.training.noting import noting


def experiment():
    """Three hundred steps in dispatches of two; the recipe that the command line is given."""
    return replace(
        toy.experiment(),
        {"train.steps": 300, "train.steps_per_dispatch": 2, "train.eval_every": 100, "train.log_every": 30},
    )


def main(ids: str, pause: str, arguments: list[str]) -> None:
    train, note = verbs.train, noting(ids, float(pause))
    verbs.train = lambda *args, on_dispatch=None, **named: train(*args, on_dispatch=note, **named)
    app.main(arguments)


if __name__ == "__main__":
    # What a shell starts in the background ignores Ctrl-C, and so would this process, started by tests that run there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
