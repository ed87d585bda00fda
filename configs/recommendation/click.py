"""Your own clicks: a CSV, TSV, JSONL or Parquet file, a record a row.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     a label column of 1 and 0, named by --task.label; every other column is judged by its type and printed
expected: depends on the data
time:     depends on the data
command:  suite train recommendation.click --data clicks.parquet --task.label clicked
"""

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import deepfm
from suite.tasks.recommendation.click import ClickPrediction
from suite.tasks.recommendation.defaults import ByRecords


def experiment() -> Experiment:
    return Experiment(
        name="recommendation.click",
        task=ClickPrediction(data=Table(path=""), fields=Fields(bins=16, bins_as_categories=True)),
        model=deepfm.Config(width=16, hidden=(128, 64), dropout=0.2),
        optim=Optim(learning_rate=1e-3, weight_decay=0.05, no_decay=(r"bias$",)),
        train=Train(epochs=0, batch_size=0, eval_batch_size=4096, best="loss", patience=4, baseline=True),
        defaults=ByRecords(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=2e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.5),
                Choice(field="model.width", among=(8, 16, 32)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2, "model.hidden": (16,)})
