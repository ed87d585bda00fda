"""The recipe that test_hosts gives the command line: dropout, parameters split over all devices, a short last batch."""

from suite.experiment.sections import replace
from tests import toy


def experiment():
    """Saves every twenty steps; slow enough to be caught between two of them."""
    return replace(
        toy.experiment(),
        {
            "train.steps": 80,
            "train.eval_every": 40,
            "train.log_every": 20,
            "model.width": 64,
            "checkpoint.every": 20,
            "parallel.data": 1,
            "parallel.fsdp": -1,
        },
    )
