"""The head of the Criteo display advertising log with DeepFM.

source:   Criteo, under the rules of its challenge; the first 8,000 rows, from Lapis-Hong/Wide-ResDNN
data:     SUITE_DATA/ctr_criteo: 7,200 training, 409 validation and 391 test rows
expected: test auc 0.719 (one seed; 95 % bootstrap interval 0.657 to 0.776; goal auc 0.7)
time:     1 minute on 2 CPU cores
command:  suite train recommendation.criteo_deepfm
"""

import os

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.clicks import CRITEO, CRITEO_CATEGORIES, CRITEO_NUMBERS
from suite.data.sources.datasets import Table
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import deepfm
from suite.tasks.recommendation.click import ClickPrediction


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("SUITE_DATA", "data"), "ctr_criteo")
    fields = Fields(dense=CRITEO_NUMBERS, categorical=CRITEO_CATEGORIES, normalise="log", min_count=4)
    return Experiment(
        name="recommendation.criteo_deepfm",
        task=ClickPrediction(
            data=Table(path=folder, stratify="", header=CRITEO, texts=CRITEO_CATEGORIES, delimiter="\t"),
            fields=fields,
            bootstrap=1000,
        ),
        model=deepfm.Config(width=8, hidden=(64, 32), dropout=0.5),
        optim=Optim(learning_rate=1e-3, weight_decay=0.5, schedule="constant", no_decay=(r"bias$",)),
        train=Train(epochs=30, batch_size=256, best="auc", patience=5),
        goal=Goal(metric="auc", at_least=0.70, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(), {"train.steps": 10, "train.log_every": 5, "train.eval_every": 10, "task.bootstrap": 50}
    )
