"""Your own events: what a user takes next, by what the user took before.

source:   your table of events; each user's last event is held out for the test, the one before it for validation
data:     a CSV, TSV, JSONL or Parquet file with an event a row: a user, an item, and a time where rows are in no order
expected: depends on the data
time:     depends on the data
command:  suite train recommendation.sequence --data events.csv --task.user user --task.item item --task.time time
"""

from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import decoder
from suite.tasks.recommendation.sequence import SequentialRecommendation


def experiment() -> Experiment:
    return Experiment(
        name="recommendation.sequence",
        task=SequentialRecommendation(data=Table(path="")),
        model=decoder.Config(
            layers=2, width=64, heads=2, feed_forward=256, max_length=256, dropout=0.3, attention_dropout=0.0
        ),
        optim=Optim(learning_rate=1e-3, warmup_steps=100, weight_decay=0.01, schedule="constant"),
        train=Train(epochs=100, batch_size=128, eval_batch_size=256, best="ndcg_10", patience=5, baseline=True),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="model.dropout", low=0.1, high=0.6),
                Range(field="optim.weight_decay", low=1e-3, high=0.3, log=True),
            )
        ),
    )


def smoke() -> Experiment:
    return shrunk(experiment())


def shrunk(recipe: Experiment) -> Experiment:
    """A few steps of a narrow network."""
    changes = {"train.steps": 6, "train.log_every": 2, "train.batch_size": 16, "model.width": 16, "task.max_length": 15}
    return changed(recipe, changes)
