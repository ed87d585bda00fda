"""The head of the Avazu log with DeepFM: the first hour, categories alone.

source:   Avazu, under the rules of its competition; the first 9,000 rows, from Lapis-Hong/Wide-ResDNN
data:     SUITE_DATA/ctr_avazu: 8,087 training, 480 validation and 432 test rows
expected: test auc 0.738 (one seed; 95 % bootstrap interval 0.682 to 0.791; goal auc 0.7)
time:     1 minute on 2 CPU cores
command:  suite train recommendation.avazu_deepfm
"""

import os

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.clicks import AVAZU, AVAZU_TEXTS
from suite.data.sources.datasets import Table
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import deepfm
from suite.tasks.recommendation.click import ClickPrediction

LEFT_OUT = ("id", "click", "hour")


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("SUITE_DATA", "data"), "ctr_avazu")
    fields = Fields(categorical=tuple(name for name in AVAZU if name not in LEFT_OUT), infer=False, min_count=4)
    return Experiment(
        name="recommendation.avazu_deepfm",
        task=ClickPrediction(
            data=Table(path=folder, stratify="", header=AVAZU, texts=AVAZU_TEXTS, delimiter=","),
            label="click",
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
