"""The recipe that test_tuning searches, as a file for the command line: a goal that no trial meets."""

from suite.experiment.goal import Budget, Choice, Goal, Range, Search
from suite.experiment.sections import Experiment, replace
from tests import toy


def experiment() -> Experiment:
    """Four evaluations a trial, and few values that are compiled anew."""
    space = (
        Range(field="task.examples", low=50, high=400, whole=True),
        Choice(field="optim.learning_rate", among=(1e-2, 1e-4)),
    )
    return replace(
        toy.experiment(steps=40, eval_every=10, log_every=10, ema=0.0, eval_batch_size=64),
        {
            "goal": Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=7)),
            "search": Search(space=space, seed=0),
        },
    )
