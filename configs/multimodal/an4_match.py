"""AN4: recordings find what was said among all transcripts, and transcripts their recording.

Begin with the encoder of a recogniser, which has learnt letters: suite train speech.an4_ctc --run-dir runs/an4, then
--checkpoint.init_from audio=runs/an4. Equal transcripts are right for all of their recordings.

source:   AN4 (CMU census database) as 13 MFCC a frame
data:     948 recordings of 74 speakers (138 of 11 speakers held out for validation), 130 test recordings
expected: test both_ways_1, both_ways_5 and both_ways_10 (recall@1, 5, 10, mean of recordings by texts and texts by
          recordings) of 130 recordings 81.9, 98.8, 99.6 % (goal 50 % at 1), begun with speech.an4_ctc; seed 0, one run
time:     4 minutes on 2 CPU cores beside other programs, and before it 23 of speech.an4_ctc
command:  suite train multimodal.an4_match --checkpoint.init_from audio=runs/an4
"""

from suite.configs.multimodal import match_sounds
from suite.configs.speech import an4_ctc
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment


def experiment() -> Experiment:
    return changed(
        match_sounds.experiment(),
        {
            "name": "multimodal.an4_match",
            "task.data": an4_ctc.experiment().task.data,
            # The features and the encoder are those of speech.an4_ctc.
            "task.features.normalise": "recording",
            "task.features.front_end": LogMel(bins=40, cepstra=13),
            "task.spec_augment": SpecAugment(time_share=0.05, frequency_width=2),
            "task.max_seconds": 20.0,
            "model.parts.audio": audio.Config(
                layers=4, width=96, kernel=15, subsampling=4, dropout=0.2, pooling="hidden"
            ),
            "model.parts.heads.audio": 96,
            "train.epochs": 12.0,
            "train.eval_batch_size": 32,
            "pipeline.buckets": (256, 384, 640),
            "goal": Goal(metric="both_ways_1", at_least=0.5, on="test"),
        },
    )


def smoke() -> Experiment:
    return match_sounds.shrunk(experiment())
