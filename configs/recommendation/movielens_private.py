"""MovieLens-100k as clicks with differential privacy: logistic regression, (3, 1e-5)-private for each rating.

source:   GroupLens, Harper & Konstan 2015; for research only, no redistribution: fetch it by tfds build
data:     TFDS movielens/100k-ratings 0.1.1, split as in movielens_deepfm
expected: test auc 0.770 (seed 0; goal auc 0.74); without privacy 0.782
time:     40 seconds of one CPU core
command:  suite train recommendation.movielens_private
"""

from suite.configs.recommendation import movielens_lr
from suite.experiment.goal import Goal, Range, Search
from suite.experiment.privacy import Privacy
from suite.experiment.sections import Experiment, Optim
from suite.experiment.sections import replace as changed

CHANGES = {
    "name": "recommendation.movielens_private",
    "optim": Optim(name="sgd", learning_rate=8.0, schedule="constant", beta1=0.9, tables="dense"),
    "privacy": Privacy(epsilon=3.0, delta=1e-5, clip_norm=1.0, microbatch=512),
    "train.epochs": 10.0,
    "train.batch_size": 4096,
    "train.patience": 0,
    "train.ema": 0.9,
    "goal": Goal(metric="auc", at_least=0.74, on="test"),
    "search": Search(space=(Range(field="optim.learning_rate", low=1.0, high=30.0, log=True),)),
}


def experiment() -> Experiment:
    return changed(movielens_lr.experiment(), CHANGES)


def smoke() -> Experiment:
    small = {"train.steps": 2, "train.batch_size": 1024, "privacy.microbatch": 512, "train.eval_every": 2}
    # What little noise spends is counted for a long time, and two steps need little for a large budget.
    return changed(experiment(), {**small, "train.log_every": 1, "privacy.epsilon": 0.5})
