"""AN4: names, addresses and numbers, spelt and spoken; from cepstra, letter by letter, by CTC with a small Conformer.

source:   AN4 (CMU census database) as 13 MFCC a frame, with the word list and language model of its archive
data:     948 recordings of 74 speakers (0.7 h; the 138 of 11 speakers held out for validation), 130 test recordings
expected: test wer 13.3 % with the words of the archive, 18.4 % without (wer_greedy); seed 0, one run; goal wer 15 %
time:     22 minutes on 2 CPU cores beside other trainings (14 minutes of CPU time)
command:  suite train speech.an4_ctc
"""

import os

from suite.data.preprocessing.transcripts import Characters
from suite.data.sources.speech import SphinxFeatures
from suite.decoding import Beam, NGrams
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.recognition import SpeechRecognition


def experiment() -> Experiment:
    archive = f"{os.environ.get('SUITE_DATA', 'data')}/an4_mfcc/an4.tar.gz"
    return Experiment(
        name="speech.an4_ctc",
        task=SpeechRecognition(
            data=SphinxFeatures(path=archive),
            # The features are stored: of the front end only the frame rate counts.
            features=AudioFeatures(normalise="recording", front_end=LogMel(bins=40, cepstra=13)),
            transcriber=Characters(lowercase=False),
            spec_augment=SpecAugment(time_share=0.05, frequency_width=2),
            max_seconds=20.0,
            max_text=80,
            # The archive's model gives all its words the same probability: it is a list of words.
            decoder=Beam(width=16, alpha=0.3, beta=1.0, lexicon=True, cutoff=-7.0),
            language_model=NGrams(arpa=f"{archive}:an4/etc/an4.ug.lm"),
        ),
        model=audio.Config(layers=4, width=96, kernel=15, subsampling=4, dropout=0.2),
        optim=Optim(learning_rate=2e-3, warmup_steps=200, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=60, batch_size=16, ema=0.995, eval_every=520, eval_batch_size=32, best="-wer"),
        pipeline=Pipeline(buckets=(256, 384, 640)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="wer", at_most=0.15, on="test"),
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
            "task.decoder.width": 4,
        },
    )
