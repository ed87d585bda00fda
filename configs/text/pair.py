"""Your own pairs of texts with what they are to each other: entailment, likeness, question and answer.

From published weights, MiniLM or those you name, which read both texts at once.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     columns text, other and target, or others named by --task.text, --task.other and --target: classes or a number
expected: depends on the data
time:     depends on the data
command:  suite train text.pair --data pairs.csv --task.text premise --task.other hypothesis --target label
"""

from dataclasses import replace

from suite.configs.text import finetune, sst2_minilm
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.tasks.text.pairs import PairPrediction


def experiment() -> Experiment:
    task = PairPrediction(data=Table(path=""), tokenizer=Published(column="both"))
    made = replace(finetune.experiment(), name="text.pair", task=task)
    return changed(made, {"train.best": "loss"})


def smoke() -> Experiment:
    return sst2_minilm.shrunk(experiment())
