"""Handwritten digits, 8x8, with a small network: real images that come with scikit-learn.

source:   UCI Optical Recognition of Handwritten Digits, as scikit-learn carries it
data:     1,797 images of 8x8, split 80/10/10 by a seeded hash
expected: test accuracy >= 96 %
time:     seconds on 2 CPU cores
command:  suite train vision.digits_dnn
"""

from suite.data.sources.datasets import Digits
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import dnn
from suite.tasks.vision.classification import ImageClassification


def experiment() -> Experiment:
    return Experiment(
        name="vision.digits_dnn",
        task=ImageClassification(data=Digits()),
        model=dnn.Config(hidden=(256,), dropout=0.4),
        optim=Optim(learning_rate=3e-3, warmup_steps=20, weight_decay=0.02),
        train=Train(epochs=60, batch_size=64, steps_per_dispatch=10, eval_every=100, log_every=50),
        goal=Goal(metric="accuracy", at_least=0.96, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(), {"train.steps": 20, "train.steps_per_dispatch": 5, "train.log_every": 5, "optim.warmup_steps": 2}
    )
