"""Spoken digits, spelt letter by letter: CTC with a small Conformer.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: test wer 0.7 % (seed 0; goal 2 %); 30.8 % on the speaker theo where he was never heard
time:     10 to 20 minutes on 2 CPU cores beside other programs (7 minutes of CPU time); not measured alone
command:  suite train speech.fsdd_ctc (--task.data.held_out theo tests on a speaker who was never heard)
"""

import os

from suite.data.preprocessing.audio import Speed
from suite.data.sources.speech import SpokenDigits
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.recognition import SpeechRecognition


def experiment() -> Experiment:
    return Experiment(
        name="speech.fsdd_ctc",
        task=SpeechRecognition(
            data=SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
            # Frames of 8 ms, of which the model joins two: short recordings keep one for each letter.
            features=AudioFeatures(front_end=LogMel(sample_rate=8000, window=200, hop=64, fft=256, bins=40, low=60.0)),
            augment=(Speed(),),
            spec_augment=SpecAugment(time_share=0.1, frequency_width=6),
            max_seconds=3.0,
            max_text=8,
        ),
        model=audio.Config(layers=3, width=96, kernel=9, subsampling=2),
        optim=Optim(learning_rate=2e-3, warmup_steps=200, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=30, batch_size=32, ema=0.995, eval_every=375, eval_batch_size=100, best="-wer"),
        pipeline=Pipeline(buckets=(4096, 6144, 20480)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="wer", at_most=0.02, on="test"),
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
