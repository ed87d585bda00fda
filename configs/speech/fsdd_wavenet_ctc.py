"""Spoken digits, spelt letter by letter: CTC with WaveNet's gated layers, which see both ways.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: test wer 2.7 % (seed 0, one run); goal 3 %
time:     10 minutes on 2 CPU cores beside tests
command:  suite train speech.fsdd_wavenet_ctc
"""

from suite.configs.speech import fsdd_ctc
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import wavenet_encoder


def experiment() -> Experiment:
    return changed(
        fsdd_ctc.experiment(),
        {
            "name": "speech.fsdd_wavenet_ctc",
            "model": wavenet_encoder.Config(cycles=3, dilations=5, width=64, skip=128, subsampling=2),
            "train.epochs": 40,
            "goal": Goal(metric="wer", at_most=0.03, on="test"),
        },
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.eval_every": 4,
            "train.log_every": 2,
            "optim.warmup_steps": 2,
            "model.width": 16,
            "model.cycles": 1,
            "model.dilations": 2,
            "task.features.examples": 64,
        },
    )
