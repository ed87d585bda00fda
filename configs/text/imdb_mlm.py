"""IMDB film reviews without their labels, by masked language modelling; then a few labels are enough.

source:   arXiv 1810.04805, on 3.3 billion words; here 6 million
data:     aclImdb, archive or folder, in $SUITE_DATA/imdb: 25,000 training reviews (5 % held out for validation)
expected: accuracy of hidden tokens of validation 23.3 % (seed 0, one run; goal 20 %)
time:     20 minutes on 2 CPU cores beside other programs
command:  suite train text.imdb_mlm
"""

import os

from suite.configs.text import pretrain
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    archive = os.path.join(os.environ.get("SUITE_DATA", "data"), "imdb", "aclImdb_labelled.tar.xz")
    return changed(
        pretrain.experiment(),
        {
            "name": "text.imdb_mlm",
            "task.data": Folder(path=archive, validation=0.05),
            "optim.learning_rate": 2e-3,
            "train.steps": 3000,
            "train.batch_size": 32,
            "train.eval_every": 1000,
            "precision.compute": "bfloat16",
            "goal": Goal(metric="accuracy", at_least=0.2, on="validation"),
        },
    )


def smoke() -> Experiment:
    return changed(pretrain.smoke(), {"name": "text.imdb_mlm", "task.data": experiment().task.data})
