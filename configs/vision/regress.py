"""A number for each of your own images: an age, a count, a price.

Ordered classes: --task.answer.problem ordered.

source:   your table, split 80/10/10 by a seeded hash where it has no splits
data:     a CSV, JSONL or Parquet table with a column of pictures, as bytes or as paths relative to the table, and the
          number to predict
expected: depends on the data
time:     depends on the data
command:  suite train vision.regress --data photos.csv --task.image photo --target age
"""

from suite.data.preprocessing.target import Target
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.defaults import ByPictures
from suite.tasks.vision.prediction import ImagePrediction


def experiment() -> Experiment:
    return Experiment(
        name="vision.regress",
        task=ImagePrediction(data=Table(path=""), answer=Target(problem="number")),
        model=resnet.small(stem_stride=0, stem_pool=None, stem_width=0, blocks=(), widths=(), dropout=0.2),
        optim=Optim(learning_rate=3e-3, warmup_fraction=0.1, weight_decay=0.05),
        train=Train(epochs=0, batch_size=0, eval_batch_size=256, best="loss", baseline=True),
        defaults=ByPictures(places_count=True),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=1e-2, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.5),
            )
        ),
    )


def smoke() -> Experiment:
    return shrunk(experiment())


def shrunk(recipe: Experiment) -> Experiment:
    """A few steps of a narrow network."""
    return changed(
        recipe, {"train.steps": 6, "train.log_every": 2, "model.stem_width": 16, "model.widths": (16, 16, 16)}
    )
