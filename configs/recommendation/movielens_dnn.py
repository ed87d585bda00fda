"""MovieLens-100k as clicks with a DNN over embeddings: the same protocol as movielens_deepfm, for comparison.

source:   GroupLens, Harper & Konstan 2015; for research only, no redistribution: fetch it by tfds build
data:     TFDS movielens/100k-ratings 0.1.1, split as in movielens_deepfm
expected: test auc 0.793 (three seeds, 0.7919 to 0.7937; goal auc 0.785)
time:     half a minute on 2 CPU cores, beside other work
command:  suite train recommendation.movielens_dnn
"""

from suite.configs.recommendation.movielens_deepfm import experiment as deepfm
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed

CHANGES = {"name": "recommendation.movielens_dnn", "model.kind": "dnn", "goal.at_least": 0.785}


def experiment() -> Experiment:
    return changed(deepfm(), CHANGES)


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 20, "train.log_every": 5, "train.eval_every": 20})
