"""The films that a user of MovieLens 100k rated, of a random tenth of the ratings, with LightGCN.

source:   GroupLens, for research alone; prepared by TFDS
data:     movielens/100k-ratings: 943 users, 1,682 films, 100,000 ratings; a tenth by a hash of user and film is test
expected: test recall_20 0.402, ndcg_20 0.360 (one seed; goal recall_20 0.38; EASE 0.400 and 0.362)
time:     3 minutes on 2 CPU cores shared with other work, 1 minute of CPU time
command:  suite train recommendation.movielens_lightgcn
"""

from dataclasses import replace

from suite.configs.recommendation import retrieve
from suite.data.sources.datasets import Tfds
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import lightgcn


def experiment() -> Experiment:
    return changed(
        replace(retrieve.experiment(), name="recommendation.movielens_lightgcn", model=lightgcn.Config(layers=2)),
        {
            "task.data": Tfds(name="movielens/100k-ratings"),
            "task.user": "user_id",
            "task.item": "movie_id",
            "task.split.by": "random",
            "task.split.validation": 0.02,
            "task.negatives": "all",
            "task.temperature": 0.2,
            "optim.learning_rate": 1e-2,
            "train.epochs": 60,
            "train.batch_size": 8192,
            "train.eval_every": 110,
            "train.best": "",
            "train.patience": 0,
            "goal": Goal(metric="recall_20", at_least=0.38, on="test"),
        },
    )


def smoke() -> Experiment:
    return retrieve.shrunk(experiment())
