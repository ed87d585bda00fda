"""Spoken digits without their labels: clusters of hidden frames; then ten labels a digit are enough.

source:   arXiv 2106.07447, first iteration, on 960 hours; here 17 minutes
data:     Free Spoken Digit Dataset, 2,400 recordings without labels (300 for validation), 8 kHz
expected: accuracy at hidden frames of validation 39.6 % (seed 0; goal 20 %); then ten labels a digit give 89.2 % of
          test digits right, and 81.9 % from fresh parameters (three draws)
time:     5 minutes on 2 CPU cores beside other programs
command:  suite train speech.fsdd_pretrain
"""

from dataclasses import replace

from suite.configs.speech import fsdd_keyword, pretrain
from suite.data.preprocessing.audio import Speed
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel


def experiment() -> Experiment:
    keyword = fsdd_keyword.experiment()
    front_end = LogMel(sample_rate=8000, window=200, hop=80, fft=256, bins=40, low=60.0)
    return changed(
        pretrain.experiment(),
        {
            "name": "speech.fsdd_pretrain",
            "task.data": keyword.task.data,
            "task.features.front_end": front_end,
            "task.clusters.front_end": replace(front_end, cepstra=13),
            "task.augment": (Speed(),),
            "task.max_seconds": 3.0,
            # The encoder of speech.fsdd_keyword.
            "model.parts.audio": audio.Config(layers=2, width=64, kernel=9, pooling="hidden"),
            "optim.learning_rate": 2e-3,
            "train.epochs": 60.0,
            "train.batch_size": 32,
            "train.eval_batch_size": 100,
            "pipeline.buckets": (6144, 20480),
            "goal": Goal(metric="accuracy", at_least=0.2, on="validation"),
        },
    )


def smoke() -> Experiment:
    small = {"train.steps": 4, "train.batch_size": 8, "train.log_every": 2, "train.eval_every": 4}
    sizes = {"model.parts.audio.width": 16, "model.parts.audio.layers": 1, "task.clusters.count": 8}
    return changed(experiment(), {**small, **sizes, "task.clusters.examples": 64, "task.features.examples": 64})
