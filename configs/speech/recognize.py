"""Your own recordings with what is said in them.

source:   your manifest, split 80/10/10 by a seeded hash where no line names its split
data:     manifest.jsonl with {"audio": "a.wav", "text": "what is said"} a line; or a folder in LJSpeech's layout
expected: depends on the data
time:     depends on the data
command:  suite train speech.recognize --data manifest.jsonl
"""

from suite.data.preprocessing.audio import Noise, Speed
from suite.data.sources.speech import AudioManifest
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.recognition import SpeechRecognition


def experiment() -> Experiment:
    return Experiment(
        name="speech.recognize",
        task=SpeechRecognition(
            data=AudioManifest(path=""),
            features=AudioFeatures(front_end=LogMel(fft=512)),
            augment=(Speed(), Noise(share=0.3)),
            spec_augment=SpecAugment(),
            max_seconds=20.0,
            max_text=400,
        ),
        model=audio.Config(layers=6, width=144),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.02, clip_norm=1.0),
        train=Train(epochs=50, batch_size=16, ema=0.999, best="-wer", patience=10),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="optim.weight_decay", low=2e-3, high=0.2, log=True),
                Range(field="model.dropout", low=0.0, high=0.4),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 4, "train.log_every": 2, "model.width": 16, "model.layers": 1})
