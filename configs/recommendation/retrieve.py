"""Your own events: the items of a catalogue that a user may want, by users, items and what is known of them.

source:   your table of events, and perhaps one of items and one of users
data:     a CSV, TSV, JSONL or Parquet file with an event a row: a user and an item; tables of items and users by name
expected: depends on the data
time:     depends on the data
command:  suite train recommendation.retrieve --data events.csv --task.user user --task.item item
"""

from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import tower
from suite.models.parts import Parts
from suite.tasks.recommendation.retrieve import Retrieval


def experiment() -> Experiment:
    return Experiment(
        name="recommendation.retrieve",
        task=Retrieval(data=Table(path="")),
        model=Parts(parts={"user": tower.Config(id_dropout=0.2), "item": tower.Config(id_dropout=0.5, dropout=0.2)}),
        optim=Optim(learning_rate=5e-3, schedule="constant"),
        train=Train(epochs=30, batch_size=2048, eval_batch_size=256, best="ndcg_20", patience=5, baseline=True),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=1e-3, high=2e-2, log=True),
                Range(field="task.temperature", low=0.08, high=0.3, log=True),
            )
        ),
    )


def smoke() -> Experiment:
    return shrunk(experiment())


def shrunk(recipe: Experiment) -> Experiment:
    """A few steps of narrow vectors."""
    changes = {"train.steps": 6, "train.log_every": 2, "train.batch_size": 64}
    widths = {f"model.parts.{side}.width": 16 for side in ("user", "item")}
    return changed(recipe, {**changes, **widths})
