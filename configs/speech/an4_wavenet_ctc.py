"""AN4: names, addresses and numbers, spelt and spoken; from cepstra, by CTC with WaveNet's gated layers.

source:   AN4 (CMU census database) as 13 MFCC a frame, with the word list and language model of its archive
data:     948 recordings of 74 speakers (0.7 h; the 138 of 11 speakers held out for validation), 130 test recordings
expected: test wer 18.1 % with the words of the archive, 25.5 % without (wer_greedy); seed 0, one run; goal wer 20 %
time:     10 minutes of CPU time on 2 cores, 13 minutes beside other programs
command:  suite train speech.an4_wavenet_ctc
"""

from suite.configs.speech import an4_ctc
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import wavenet_encoder
from suite.nn.audio.spectral import SpecAugment


def experiment() -> Experiment:
    return changed(
        an4_ctc.experiment(),
        {
            "name": "speech.an4_wavenet_ctc",
            "model": wavenet_encoder.Config(subsampling=4, dropout=0.3),
            "task.spec_augment": SpecAugment(time_share=0.1, frequency_width=3),
            "goal": Goal(metric="wer", at_most=0.20, on="test"),
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
            "task.decoder.width": 4,
        },
    )
