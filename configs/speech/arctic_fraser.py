"""Sentences of one British voice spoken from phones: FastSpeech of convolutions, with the durations of its labels.

source:   CMU ARCTIC prompts read by Fraser Bowen (somtts/voicebuilding_seminar_16), phones with times by MAUS
data:     450 recordings, 16 kHz: 361 train, 39 validation, 50 test (set b); 0.1 s of silence at both ends
expected: test mel_mcd13 4.29 dB with the recordings' durations (goal 4.2: missed; means of each phone's thirds between
          its neighbours 4.83), of what is heard mcd13 4.61, mcd13_dtw 4.18 dB; PocketSphinx mishears 0.78 times as many
          words as of the recordings (0.389 for 0.498); seed 0, one run
time:     some 6 minutes on 2 CPU cores alone
command:  suite train speech.arctic_fraser
"""

import os

from suite.configs.speech.synthesize import tiny
from suite.data.preprocessing.spelling import Spelling
from suite.data.sources.labelled_speech import LabelledSpeech
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
    data = f"{os.environ.get('SUITE_DATA', 'data')}/arctic_fraser/arctic_fraser.tar.xz"
    return Experiment(
        name="speech.arctic_fraser",
        task=SpeechSynthesis(
            data=LabelledSpeech(path=data, test="arctic_b"),
            text="phones",
            durations="durations",
            words="text",
            features=VoiceFeatures(part=ACOUSTIC, front_end=LogMel(window=640, hop=200, fft=1024)),
            spelling=Spelling(part=ACOUSTIC, unit="phones", language=""),
            max_symbols=200,
            symbol_frames=10,
            iterations=30,
        ),
        # Each phone sees two on either side: wider surroundings are learnt by heart from so few sentences.
        model=Parts(
            parts={ACOUSTIC: fastspeech.Config(layers=2, taps=3, decoder_width=192, decoder_layers=4, dropout=0.4)}
        ),
        optim=Optim(learning_rate=2e-3, warmup_steps=50, weight_decay=0.01, clip_norm=1.0),
        defaults=Vocoded(),
        train=Train(steps=1400, batch_size=16, ema=0.995, eval_every=700, eval_batch_size=40, best="-mel_mcd13"),
        pipeline=Pipeline(buckets={"": (40, 72), "frames": (304, 416)}),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="mel_mcd13", at_most=4.2, on="test"),
    )


def smoke() -> Experiment:
    few = {"train.eval_every": 4, "optim.warmup_steps": 2, "task.data.validation": 0.03}
    return changed(experiment(), {**tiny(), **few})
