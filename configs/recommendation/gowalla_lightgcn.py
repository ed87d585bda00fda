"""The places that a user of Gowalla goes to besides, with LightGCN and the softmax in the batch.

source:   Gowalla check-ins in the form of LightGCN, from geon0325/LightGCNpp
data:     SUITE_DATA/gowalla: 29,858 users, 40,981 places; 719,081 training, 91,047 validation and 217,242 test pairs
expected: not measured to the end (goal test recall_20 0.175; validation 0.124 after one epoch)
time:     an epoch takes 2 minutes of CPU time, its evaluation included
command:  suite train recommendation.gowalla_lightgcn
"""

import os
from dataclasses import replace

from suite.configs.recommendation import retrieve
from suite.data.sources.item_lists import ItemLists
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import lightgcn


def experiment() -> Experiment:
    return changed(
        replace(retrieve.experiment(), name="recommendation.gowalla_lightgcn", model=lightgcn.Config(layers=3)),
        {
            "task.data": ItemLists(path=os.path.join(os.environ.get("SUITE_DATA", "data"), "gowalla")),
            "task.temperature": 0.2,
            "optim.learning_rate": 1e-2,
            "train.epochs": 30,
            "train.batch_size": 8192,
            "train.eval_batch_size": 1024,
            "train.eval_every": 440,
            "train.best": "recall_20",
            "train.baseline": False,
            "goal": Goal(metric="recall_20", at_least=0.175, on="test"),
        },
    )


def smoke() -> Experiment:
    return retrieve.shrunk(experiment())
