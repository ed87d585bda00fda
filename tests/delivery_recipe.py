"""The recipe that test_delivery delivers, as a file for the command line: digits, the goal met by the second trial."""

import suite
from suite.experiment.goal import Budget, Choice, Goal, Search
from suite.experiment.sections import Experiment


def experiment() -> Experiment:
    return suite.replace(
        suite.load("vision.digits_dnn"),
        {
            "train.steps": 60,
            "train.eval_every": 20,
            "train.log_every": 20,
            "train.epochs": 0.0,
            "optim.learning_rate": 1e-5,
            "optim.warmup_steps": 0,
            "goal": Goal(metric="accuracy", at_least=0.8, on="test", budget=Budget(trials=4)),
            "search": Search(space=(Choice(field="optim.learning_rate", among=(1e-5, 1e-2)),), pruner="none"),
        },
    )
