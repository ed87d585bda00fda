"""Scientific articles that nobody has yet, for the users of citeulike-a, by the articles' tags.

source:   js05212/citeulike-a; citation asked for
data:     SUITE_DATA/citeulike_a: 5,551 users, 16,980 articles, 46,391 tags; a fifth of the articles is held out whole
expected: test recall_20 0.389, ndcg_20 0.330 (one seed; goal recall_20 0.4: not met; cosine of tags 0.367 and 0.303)
time:     9 minutes on 2 CPU cores shared with other work
command:  suite train recommendation.citeulike_tags
"""

import os
from dataclasses import replace

from suite.configs.recommendation import retrieve
from suite.data.sources.citeulike import CiteULike
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    archive = os.path.join(os.environ.get("SUITE_DATA", "data"), "citeulike_a", "citeulike_a.tar.gz")
    return changed(
        replace(retrieve.experiment(), name="recommendation.citeulike_tags"),
        {
            "task.data": CiteULike(path=archive),
            "task.split.by": "cold_items",
            "task.split.validation": 0.05,
            "task.split.test": 0.2,
            "task.item_attributes.data": CiteULike(path=archive, part="tags"),
            "task.item_attributes.lists": ("tags",),
            "task.whole": True,
            "task.profile": True,
            "task.temperature": 0.1,
            "model.parts.user.width": 128,
            "model.parts.user.id_dropout": 0.5,
            "model.parts.item.width": 128,
            "model.parts.item.id_dropout": 0.9,
            "model.parts.item.dropout": 0.3,
            "optim.tables": "dense",
            "optim.learning_rate": 5e-3,
            "train.epochs": 8,
            "train.batch_size": 2048,
            "train.eval_batch_size": 128,
            "train.eval_every": 152,
            "train.best": "recall_20",
            "train.baseline": False,
            "goal": Goal(metric="recall_20", at_least=0.40, on="test"),
        },
    )


def smoke() -> Experiment:
    return retrieve.shrunk(experiment())
