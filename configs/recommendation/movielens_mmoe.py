"""MovieLens-100k with two goals: will this user like that film, and will it be a favourite? MMoE.

source:   GroupLens, Harper & Konstan 2015; for research only, no redistribution: fetch it by tfds build
data:     TFDS movielens/100k-ratings 0.1.1, split as in movielens_deepfm; click: 4 or 5 stars, favourite: 5 stars
expected: test click.auc 0.797, favourite.auc 0.812 (seed 0; goal favourite.auc 0.79)
time:     a minute on 2 CPU cores, beside other work
command:  suite train recommendation.movielens_mmoe
"""

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.clicks import MovieLens
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import multitask
from suite.tasks.recommendation.multitask import Multitask


def experiment() -> Experiment:
    fields = Fields(
        column="labels",
        categorical=("user", "movie", "year", "gender", "occupation", "zip"),
        lists=("genres",),
        dense=("age",),
        infer=False,
        min_count=2,
    )
    return Experiment(
        name="recommendation.movielens_mmoe",
        task=Multitask(data=MovieLens(favourite=5.0), labels=("click", "favourite"), fields=fields),
        model=multitask.Config(width=16, experts=4, hidden=(64,), tower=(32,), dropout=0.3),
        optim=Optim(learning_rate=5e-3, weight_decay=0.03, schedule="constant", no_decay=(r"bias$",)),
        train=Train(epochs=12, batch_size=2048, eval_batch_size=16384, best="loss", patience=2),
        goal=Goal(metric="favourite.auc", at_least=0.79, on="test"),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 20, "train.log_every": 5, "train.eval_every": 20})
