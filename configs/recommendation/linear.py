"""Your own events: what else a user may want, by what the user had, in closed form.

source:   your table of events
data:     a CSV, TSV, JSONL or Parquet file with an event a row: a user and an item; or lists of items
expected: depends on the data
time:     seconds up to 20,000 items
command:  suite train recommendation.linear --data events.csv --task.user user --task.item item
"""

from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Train
from suite.models import item_weights
from suite.tasks.recommendation.linear import LinearRecommendation


def experiment() -> Experiment:
    return Experiment(
        name="recommendation.linear",
        task=LinearRecommendation(data=Table(path="")),
        model=item_weights.Config(),
        train=Train(batch_size=256, best="ndcg_20", baseline=True),
        search=Search(space=(Range(field="task.strength", low=10, high=3000, log=True),)),
    )


def smoke() -> Experiment:
    return experiment()
