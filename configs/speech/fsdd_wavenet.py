"""Spoken digits made anew of their mel bands: WaveNet, categories of the mu-law, at 8 kHz.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: validation loss 2.76 nats a sample after these 1,200 steps, mcd13 5.2 dB; goal test 2.1, not met; longer
          training is not measured
time:     11 minutes on 2 CPU cores, beside other programs
command:  suite train speech.fsdd_wavenet (--model.framed False: without mel bands, 2.90 nats)
"""

import os

from suite.data.sources.speech import SpokenDigits
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import wavenet
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.vocoding import Vocoding


def experiment() -> Experiment:
    return Experiment(
        name="speech.fsdd_wavenet",
        task=Vocoding(
            data=SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
            features=AudioFeatures(front_end=LogMel(sample_rate=8000, window=256, hop=100, fft=512, bins=64)),
            seconds=1.0,
            max_seconds=3.0,
        ),
        model=wavenet.Config(),
        optim=Optim(learning_rate=2e-3, warmup_steps=50, clip_norm=1.0),
        train=Train(steps=1200, batch_size=4, ema=0.995, eval_every=1200, eval_batch_size=100, best="-loss"),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="loss", at_most=2.1, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.eval_every": 4,
            "train.log_every": 2,
            "train.batch_size": 4,
            "optim.warmup_steps": 2,
            "task.seconds": 0.2,
            "task.features.examples": 64,
            "model.width": 8,
            "model.skip": 16,
            "model.cycles": 1,
            "model.dilations": 3,
        },
    )
