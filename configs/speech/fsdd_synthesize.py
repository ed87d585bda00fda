"""Spoken digits in the voices of six speakers: FastSpeech of convolutions, characters aligned while it learns.

source:   Free Spoken Digit Dataset (Jakobovski), official split: recordings 0 to 4 of each digit and speaker are test
data:     3,000 recordings of 6 speakers, 8 kHz: 2,400 train, 300 validation (recordings 5 to 9), 300 test
expected: test mcd13_dtw 3.79 dB (goal 5), mcd13 3.81 with the durations of the alignment; of 60 digits and voices
          speech.fsdd_keyword hears 60 right (59 of the recordings; python -m benchmarks.heard); seed 0, one run
time:     5 minutes on 2 CPU cores, beside other programs
command:  suite train speech.fsdd_synthesize
"""

import os

from suite.configs.speech.synthesize import tiny
from suite.data.sources.speech import SpokenDigits
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import fastspeech
from suite.models.parts import Parts
from suite.nn.audio.spectral import LogMel
from suite.tasks.speech.synthesis import ACOUSTIC, SpeechSynthesis
from suite.tasks.speech.synthesis_defaults import Vocoded
from suite.tasks.speech.voice import VoiceFeatures


def experiment() -> Experiment:
    return Experiment(
        name="speech.fsdd_synthesize",
        task=SpeechSynthesis(
            data=SpokenDigits(path=f"{os.environ.get('SUITE_DATA', 'data')}/fsdd"),
            speaker="speaker",
            # As speech.fsdd_wavenet, which can be the vocoder.
            features=VoiceFeatures(
                part=ACOUSTIC, front_end=LogMel(sample_rate=8000, window=256, hop=100, fft=512, bins=64)
            ),
            max_seconds=3.0,
            max_symbols=8,
            symbol_frames=16,
            iterations=30,
        ),
        model=Parts(parts={ACOUSTIC: fastspeech.Config(width=96, predictor=64, decoder_width=128, decoder_layers=4)}),
        optim=Optim(learning_rate=2e-3, warmup_steps=100, weight_decay=0.01, clip_norm=1.0),
        defaults=Vocoded(),
        train=Train(epochs=25, batch_size=32, ema=0.995, eval_every=900, eval_batch_size=100, best="-mcd13_dtw"),
        pipeline=Pipeline(buckets={"": (8,), "frames": (64, 240)}),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="mcd13_dtw", at_most=5.0, on="test"),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.eval_every": 4, "optim.warmup_steps": 2, **tiny()})
