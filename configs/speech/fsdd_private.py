"""Spoken digits with differential privacy: a linear layer over pooled log-mel frames, (3, 1e-4)-private.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: test accuracy 91.0 % (seed 0; goal 86 %)
time:     1 minute of one CPU core, a minute of compiling included
command:  suite train speech.fsdd_private
"""

import os

from suite.data.sources.speech import SpokenDigits
from suite.experiment.goal import Goal, Range, Search
from suite.experiment.privacy import Privacy
from suite.experiment.sections import Experiment, Optim, Pipeline, Train
from suite.experiment.sections import replace as changed
from suite.models import pooled_frames
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.classification import AudioClassification


def experiment() -> Experiment:
    return Experiment(
        name="speech.fsdd_private",
        task=AudioClassification(
            data=SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
            features=AudioFeatures(front_end=LogMel(sample_rate=8000, window=200, hop=80, fft=256, bins=32, low=60.0)),
            max_seconds=3.0,
        ),
        model=pooled_frames.Config(stretches=12),
        optim=Optim(name="sgd", learning_rate=0.3, schedule="constant", beta1=0.9),
        privacy=Privacy(epsilon=3.0, delta=1e-4, clip_norm=0.5, microbatch=128),
        train=Train(epochs=40, batch_size=512, eval_every=20, eval_batch_size=100, log_every=20, ema=0.9),
        pipeline=Pipeline(buckets=(6144, 20480)),
        goal=Goal(metric="accuracy", at_least=0.86, on="test"),
        search=Search(space=(Range(field="optim.learning_rate", low=0.2, high=8.0, log=True),)),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 2,
            "train.log_every": 1,
            "train.batch_size": 16,
            "privacy.microbatch": 8,
            "privacy.epsilon": 0.5,  # what little noise spends is counted for a long time
            "task.features.examples": 64,
        },
    )
