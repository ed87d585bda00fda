"""Your own recordings made anew of their mel bands: a WaveNet for your voices.

source:   your manifest, split 80/10/10 by a seeded hash where no line names its split; or a folder of recordings
data:     manifest.jsonl with {"audio": "a.wav"} a line; with "speaker" and --task.speaker speaker several voices
expected: depends on the data
time:     depends on the data
command:  suite train speech.vocode --data manifest.jsonl
"""

from suite.data.sources.speech import AudioManifest
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import wavenet
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.vocoding import Vocoding


def experiment() -> Experiment:
    return Experiment(
        name="speech.vocode",
        task=Vocoding(
            data=AudioManifest(path=""),
            features=AudioFeatures(front_end=LogMel(window=640, hop=200, fft=1024)),
            seconds=0.5,
        ),
        model=wavenet.Config(cycles=3, width=64, skip=128),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.05, clip_norm=1.0),
        train=Train(epochs=50, batch_size=8, ema=0.999, best="-loss", patience=10),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="model.dropout", low=0.0, high=0.2),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.log_every": 2,
            "train.batch_size": 4,
            "task.seconds": 0.2,
            "model.width": 8,
            "model.skip": 16,
            "model.cycles": 1,
            "model.dilations": 3,
        },
    )
