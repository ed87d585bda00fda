"""The product that a customer of Amazon Beauty reviews next, by those reviewed before, with SASRec.

source:   Amazon reviews, 5-core, prepared by RUCAIBox/CIKM2020-S3Rec; citation asked for
data:     SUITE_DATA/amazon_beauty: 22,363 users, 12,101 items, 198,502 events; each user's last one is test
expected: not measured to the end; published with this loss and split: ndcg_10 0.0416 (goal test ndcg_10 0.0416)
time:     not measured yet
command:  suite train recommendation.beauty_sasrec
"""

import os
from dataclasses import replace

from suite.configs.recommendation import sequence
from suite.data.sources.item_lists import ItemLists
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def beauty(file: str) -> str:
    """The path of a file of the data."""
    return os.path.join(os.environ.get("SUITE_DATA", "data"), "amazon_beauty", file)


def experiment() -> Experiment:
    recipe = replace(sequence.experiment(), name="recommendation.beauty_sasrec")
    return changed(
        recipe,
        {
            "task.data": ItemLists(path=beauty("Beauty.txt.gz")),
            "model.max_length": 64,
            "model.dropout": 0.5,
            "optim.learning_rate": 2e-3,
            "train.batch_size": 256,
            "train.eval_batch_size": 1024,
            "pipeline.buckets": (4, 5, 6, 8, 11, 16, 26, 51),
            "goal": Goal(metric="ndcg_10", at_least=0.0416, on="test"),
        },
    )


def smoke() -> Experiment:
    return sequence.shrunk(experiment())
