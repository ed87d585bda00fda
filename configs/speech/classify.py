"""Your own keywords or sounds: one folder a class.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/recording.wav (or flac), or manifest.jsonl with {"audio": "a.wav", "label": "yes"} a line
expected: depends on the data
time:     depends on the data
command:  suite train speech.classify --data recordings/
"""

from suite.data.preprocessing.audio import Noise, Speed
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.classification import AudioClassification


def experiment() -> Experiment:
    return Experiment(
        name="speech.classify",
        task=AudioClassification(
            data=Folder(path=""),
            features=AudioFeatures(front_end=LogMel(fft=512, bins=64)),
            augment=(Speed(), Noise(share=0.3)),
            spec_augment=SpecAugment(frequency_width=10),
            max_seconds=10.0,
            label_smoothing=0.1,
        ),
        model=audio.Config(layers=3, width=96, pooling="mean"),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=30, batch_size=32, ema=0.99, patience=8, baseline=True),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.4),
                Range(field="task.label_smoothing", low=0.0, high=0.2),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 4, "train.log_every": 2, "model.width": 16, "model.layers": 1})
