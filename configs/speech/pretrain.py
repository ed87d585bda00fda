"""Your own recordings without transcripts: an encoder learns from them what carries on in speech.classify and
speech.recognize.

Spans of frames are hidden, and the cluster of each hidden frame is said from what is left (HuBERT's first iteration).
Then: suite train speech.recognize --data transcribed.jsonl with --checkpoint.init_from RUN.

source:   your folder or manifest, split 80/10/10 by a seeded hash where it has no splits
data:     recordings (wav, flac, mp3, ogg) in any folders, or manifest.jsonl with {"audio": "a.wav"} a line
expected: depends on the data
time:     depends on the data
command:  suite train speech.pretrain --data recordings/
"""

from suite.data.sources.unlabelled import Files
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio, frame_predictor
from suite.models.parts import Parts
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_clusters import AudioClusters
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.pretraining import MaskedClusters


def experiment() -> Experiment:
    return Experiment(
        name="speech.pretrain",
        task=MaskedClusters(
            data=Files(path=""),
            features=AudioFeatures(part="audio", front_end=LogMel(fft=512)),
            clusters=AudioClusters(front_end=LogMel(fft=512, bins=40, cepstra=13)),
        ),
        # The encoder of speech.recognize; --model.parts.audio.layers and the others are those of what is to carry on.
        model=Parts(
            parts={"audio": audio.Config(layers=6, pooling="hidden"), "predictor": frame_predictor.Config()},
            feeds={"predictor": "audio"},
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.01, beta2=0.98, clip_norm=1.0),
        train=Train(epochs=30, batch_size=32, best="loss"),
        precision=Precision(compute="bfloat16"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.batch_size": 8,
            "train.log_every": 2,
            "task.clusters.count": 8,
            "model.parts.audio.width": 16,
            "model.parts.audio.heads": 2,
            "model.parts.audio.layers": 1,
            "model.parts.predictor.width": 8,
        },
    )
