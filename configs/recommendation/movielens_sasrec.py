"""The film that a user of MovieLens 100k rates next, by the films rated before, with SASRec.

source:   GroupLens, for research alone; prepared by TFDS
data:     movielens/100k-ratings: 943 users, 1,682 films, 100,000 ratings; each user's last one is test
expected: test ndcg_10 0.0869, hit_rate_10 0.1686 (one seed, stopped after 39 epochs; goal test ndcg_10 0.085)
time:     18 minutes on 2 CPU cores beside much other work
command:  suite train recommendation.movielens_sasrec
"""

from dataclasses import replace

from suite.configs.recommendation import sequence
from suite.data.sources.datasets import Tfds
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    recipe = replace(sequence.experiment(), name="recommendation.movielens_sasrec")
    return changed(
        recipe,
        {
            "task.data": Tfds(name="movielens/100k-ratings"),
            "task.user": "user_id",
            "task.item": "movie_id",
            "task.time": "timestamp",
            "task.max_length": 100,
            "train.batch_size": 64,
            "train.epochs": 100,
            "goal": Goal(metric="ndcg_10", at_least=0.085, on="test"),
        },
    )


def smoke() -> Experiment:
    return sequence.shrunk(experiment())
