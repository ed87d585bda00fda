"""MovieLens-100k as clicks with a history: the films that the user liked before, by their attention to this film (DIN).

source:   GroupLens, Harper & Konstan 2015; for research only, no redistribution: fetch it by tfds build
data:     TFDS movielens/100k-ratings 0.1.1, split as in movielens_deepfm, with the latest 50 films liked before each
expected: test auc 0.794 (seed 0; goal auc 0.79), which is no gain: 0.796 without histories, 0.797 with the mean of 20
time:     a minute on 2 CPU cores, beside other work
command:  suite train recommendation.movielens_din
"""

from suite.configs.recommendation.movielens_deepfm import experiment as deepfm
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed

CHANGES = {
    "name": "recommendation.movielens_din",
    "task.data.history": 50,
    "task.fields.histories": (("history", "movie"),),
    "model.history_pooling": "attention",
    "goal.at_least": 0.79,
}


def experiment() -> Experiment:
    return changed(deepfm(), CHANGES)


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 20, "train.log_every": 5, "train.eval_every": 20})
