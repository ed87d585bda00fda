"""The films that a user of MovieLens 100k rated, of a random tenth of the ratings, with BPR.

source:   GroupLens, for research alone; prepared by TFDS
data:     movielens/100k-ratings: 943 users, 1,682 films, 100,000 ratings; a tenth by a hash of user and film is test
expected: test recall_20 0.394, ndcg_20 0.356 (one seed; goal recall_20 0.38; EASE 0.400 and 0.362)
time:     3 minutes on 2 CPU cores shared with other work, 36 s of CPU time
command:  suite train recommendation.movielens_bpr
"""

from dataclasses import replace

from suite.configs.recommendation import movielens_lightgcn, retrieve
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    return changed(
        replace(
            movielens_lightgcn.experiment(), name="recommendation.movielens_bpr", model=retrieve.experiment().model
        ),
        {
            "task.objective": "bpr",
            "task.negatives": "batch",
            "task.drawn": 8,
            "task.l2": 0.02,
            "optim.tables": "dense",
            "optim.learning_rate": 5e-3,
            "train.epochs": 25,
            "train.batch_size": 2048,
            "train.eval_every": 220,
        },
    )


def smoke() -> Experiment:
    return retrieve.shrunk(experiment())
