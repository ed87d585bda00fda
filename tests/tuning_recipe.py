"""The recipe that test_tuning searches, as a file for the command line: a goal that no trial meets."""

from suite.config import Budget, Choice, Experiment, Goal, Range, Search, replace
from tests import toy


def experiment() -> Experiment:
    """Four evaluations a trial, of which the first is bound to say little."""
    space = (
        Range(field="optim.learning_rate", low=1e-5, high=1e-1, log=True),
        Range(field="train.batch_size", low=8, high=24, whole=True),
        Choice(field="task.examples", among=(100, 200)),
    )
    return replace(toy.experiment(steps=40, eval_every=10, log_every=10, ema=0.0, eval_batch_size=64), {
        "goal": Goal(metric="accuracy", at_least=1.01, budget=Budget(trials=8)),
        "search": Search(space=space, seed=1),
    })  # fmt: skip
