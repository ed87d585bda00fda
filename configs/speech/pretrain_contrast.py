"""Your own recordings without transcripts, by wav2vec 2.0: the codes of hidden frames are told from those of others.

The sizes are those of the base model, which need an accelerator; speech.pretrain is for a processor. Published weights
go on learning: --checkpoint.init_from audio=facebook/wav2vec2-base (the quantiser is new). Then: suite train
speech.recognize --data transcribed.jsonl with --checkpoint.init_from RUN and the encoder in the place of its model; see
the page of speech pre-training.

source:   your folder or manifest, split 80/10/10 by a seeded hash where it has no splits
data:     recordings (wav, flac, mp3, ogg) in any folders, or manifest.jsonl with {"audio": "a.wav"} a line
expected: depends on the data
time:     depends on the data; on hours of speech days of an accelerator
command:  suite train speech.pretrain_contrast --data recordings/
"""

from suite.data.sources.unlabelled import Files
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import quantizer, wav2vec2
from suite.models.parts import Parts
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.pretraining import ContrastiveCodes


def experiment() -> Experiment:
    return Experiment(
        name="speech.pretrain_contrast",
        task=ContrastiveCodes(
            data=Files(path=""), features=AudioFeatures(part="audio", kind="samples"), max_seconds=16.0
        ),
        model=Parts(
            parts={"audio": wav2vec2.Config(pooling="hidden"), "quantizer": quantizer.Config()},
            feeds={"quantizer": "audio"},
        ),
        optim=Optim(learning_rate=5e-4, warmup_fraction=0.08, weight_decay=0.01, beta2=0.98, clip_norm=1.0),
        train=Train(epochs=100, batch_size=32, best="loss"),
        precision=Precision(compute="bfloat16"),
    )


def smoke() -> Experiment:
    sizes = {"audio.conv_widths": (16,) * 7, "audio.layers": 1, "audio.heads": 2, "audio.width": 32}
    sizes |= {"audio.feed_forward": 64, "audio.position_kernel": 16, "audio.position_groups": 2}
    sizes |= {"quantizer.entries": 8, "quantizer.code": 8, "quantizer.width": 8}
    changes = {f"model.parts.{name}": value for name, value in sizes.items()}
    return changed(experiment(), {"train.steps": 4, "train.batch_size": 8, "train.log_every": 2, **changes})
