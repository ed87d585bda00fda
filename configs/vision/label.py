"""Several labels for each of your own images, or none.

source:   your table, split 80/10/10 by a seeded hash where it has no splits
data:     a CSV, JSONL or Parquet table with a column of pictures, as bytes or as paths relative to the table, and a
          column of labels: a list, or a text such as "cat|dog"
expected: depends on the data
time:     depends on the data
command:  suite train vision.label --data photos.csv --task.image photo --target tags
"""

from dataclasses import replace

from suite.configs.vision import regress
from suite.data.preprocessing.target import Target
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.tasks.vision.defaults import ByPictures


def experiment() -> Experiment:
    recipe = replace(regress.experiment(), name="vision.label", defaults=ByPictures(whole=True))
    return changed(recipe, {"task.answer": Target(problem="labels")})


def smoke() -> Experiment:
    return regress.shrunk(experiment())
