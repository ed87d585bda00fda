"""The films that a user of MovieLens 100k rates, by the others that the user rated, with EASE.

source:   GroupLens, for research alone; prepared by TFDS
data:     movielens/100k-ratings: 943 users, 1,682 films, 100,000 ratings; a tenth at random is test, another validation
expected: test recall_20 0.400, ndcg_20 0.362 (one split; goal test ndcg_20 0.36); penalty chosen on validation
time:     seconds on 2 CPU cores
command:  suite train recommendation.movielens_ease
"""

from dataclasses import replace

from suite.configs.recommendation import linear
from suite.data.sources.datasets import Tfds
from suite.data.sources.events import EventSplit
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    return changed(
        replace(linear.experiment(), name="recommendation.movielens_ease"),
        {
            "task.data": Tfds(name="movielens/100k-ratings"),
            "task.user": "user_id",
            "task.item": "movie_id",
            "task.split": EventSplit(by="random"),
            "task.refit": True,
            "train.baseline": False,
            "goal": Goal(metric="ndcg_20", at_least=0.36, on="test"),
        },
    )


def smoke() -> Experiment:
    return experiment()
