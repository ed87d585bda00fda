"""MovieLens-100k as clicks with DeepFM: will this user like that film?

source:   GroupLens, Harper & Konstan 2015; for research only, no redistribution: fetch it by tfds build
data:     TFDS movielens/100k-ratings 0.1.1, each user's last tenth by time being test, the tenth before it validation
expected: test auc 0.797 (three seeds, 0.7951 to 0.7993; goal auc 0.79); dnn 0.793, fm 0.790, lr 0.782
time:     half a minute on 2 CPU cores, beside other work
command:  suite train recommendation.movielens_deepfm
"""

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.clicks import MovieLens
from suite.experiment.goal import Budget, Choice, Goal, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import deepfm
from suite.tasks.recommendation.click import ClickPrediction


def experiment() -> Experiment:
    # The weight decay is the best of 0.03, 0.1 and 0.3 on validation, for this model as for its parts alone.
    fields = Fields(
        categorical=("user", "movie", "year", "gender", "occupation", "zip"),
        lists=("genres",),
        dense=("age",),
        infer=False,
        min_count=2,
    )
    return Experiment(
        name="recommendation.movielens_deepfm",
        task=ClickPrediction(data=MovieLens(), label="click", fields=fields, user="user", item="movie"),
        model=deepfm.Config(kind="deepfm", width=16, hidden=(64, 32), dropout=0.3),
        optim=Optim(learning_rate=5e-3, weight_decay=0.03, schedule="constant", no_decay=(r"bias$",)),
        train=Train(epochs=12, batch_size=2048, eval_batch_size=16384, best="auc", patience=2),
        goal=Goal(metric="auc", at_least=0.79, on="test", budget=Budget(trials=20, hours=0.5)),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=1e-3, high=2e-2, log=True),
                Range(field="optim.weight_decay", low=0.01, high=0.3, log=True),
                Range(field="model.dropout", low=0.0, high=0.5),
                Choice(field="model.width", among=(8, 16, 32)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 20, "train.log_every": 5, "train.eval_every": 20})
