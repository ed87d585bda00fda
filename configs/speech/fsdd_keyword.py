"""Spoken digits as ten keywords, with a small Conformer whose frames are averaged.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: test accuracy 98.0 % (seed 0; goal 98 %)
time:     2 minutes on 2 CPU cores
command:  suite train speech.fsdd_keyword
"""

import os

from suite.data.preprocessing.audio import Speed
from suite.data.sources.speech import SpokenDigits
from suite.experiment.goal import Budget, Choice, Goal, Range, Search
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.classification import AudioClassification


def experiment() -> Experiment:
    return Experiment(
        name="speech.fsdd_keyword",
        task=AudioClassification(
            data=SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
            features=AudioFeatures(front_end=LogMel(sample_rate=8000, window=200, hop=80, fft=256, bins=40, low=60.0)),
            augment=(Speed(),),
            spec_augment=SpecAugment(time_share=0.1, frequency_width=6),
            max_seconds=3.0,
            label_smoothing=0.1,
        ),
        model=audio.Config(layers=2, width=64, kernel=9, subsampling=4, pooling="mean"),
        optim=Optim(learning_rate=2e-3, warmup_steps=100, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=20, batch_size=32, ema=0.99, eval_every=375, eval_batch_size=100),
        pipeline=Pipeline(buckets=(6144, 20480)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="accuracy", at_least=0.98, on="test", budget=Budget(trials=12, hours=1.0)),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=8e-3, log=True),
                Range(field="optim.weight_decay", low=0.01, high=0.3, log=True),
                Range(field="model.dropout", low=0.0, high=0.3),
                Choice(field="train.epochs", among=(20.0, 30.0)),
            )
        ),
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
            "model.layers": 1,
            "task.features.examples": 64,
        },
    )
