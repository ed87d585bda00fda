"""Your own texts with several labels each: a CSV, TSV, JSONL or Parquet file, such as films with their genres.

source:   your file, split 80/10/10 by a seeded hash
data:     columns text and target, or others named by --task.text and --target; labels as lists, or parted by "|" or ","
expected: depends on the data
time:     depends on the data; 1,000 sentences take seconds
command:  suite train text.label --data films.csv --task.text plot --target genres
"""

from dataclasses import replace

from suite.configs.text import regress
from suite.data.preprocessing.target import Target
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    made = replace(regress.experiment(), name="text.label")
    return changed(made, {"task.answer": Target(problem="labels")})


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2})
