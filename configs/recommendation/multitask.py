"""Your own events with several outcomes each, such as click and conversion: a table with a record a row.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     two or more label columns, named by --task.labels, of 1 and 0 or of numbers; a record may lack some of them
expected: depends on the data
time:     depends on the data
command:  suite train recommendation.multitask --data events.parquet --task.labels click conversion
"""

from suite.data.preprocessing.tabular import Fields
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import multitask
from suite.tasks.recommendation.defaults import ByRecords
from suite.tasks.recommendation.multitask import Multitask


def experiment() -> Experiment:
    fields = Fields(column="labels", bins=16, bins_as_categories=True)
    return Experiment(
        name="recommendation.multitask",
        task=Multitask(data=Table(path=""), fields=fields),
        model=multitask.Config(width=16, hidden=(64,), tower=(32,), dropout=0.2),
        optim=Optim(learning_rate=1e-3, weight_decay=0.05, no_decay=(r"bias$",)),
        train=Train(epochs=0, batch_size=0, eval_batch_size=4096, best="loss", patience=4, baseline=True),
        defaults=ByRecords(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=2e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.5),
                Choice(field="model.width", among=(8, 16, 32)),
                Choice(field="model.experts", among=(2, 4, 8)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2, "model.hidden": (16,), "model.experts": 2})
