"""Your own recordings and what they are about, in one space: a text ranks recordings, and texts are told apart.

Both encoders are trained: a Conformer of recordings, and a transformer of the characters of texts. To begin with the
encoder of a recogniser, or of speech.pretrain: --checkpoint.init_from audio=RUN, with its sizes.

source:   your manifest, split 80/10/10 by a seeded hash where it has no splits
data:     manifest.jsonl with {"audio": "a.wav", "text": "what is said or heard"} a line; several lines a recording
expected: depends on the data
time:     depends on the data
command:  suite train multimodal.match_sounds --data manifest.jsonl
"""

from suite.data.sources.speech import AudioManifest
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import audio, pairing, transformer
from suite.models.parts import Parts
from suite.nn.audio.spectral import LogMel, SpecAugment
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.multimodal.defaults import FrozenEncoders
from suite.tasks.multimodal.sounds import SoundTextMatching


def experiment() -> Experiment:
    return Experiment(
        name="multimodal.match_sounds",
        task=SoundTextMatching(
            data=AudioManifest(path=""),
            features=AudioFeatures(part="audio", front_end=LogMel(fft=512)),
            spec_augment=SpecAugment(),
        ),
        model=Parts(
            parts={
                "audio": audio.Config(layers=4, width=144, pooling="hidden"),
                "text": transformer.Config(layers=2, width=128, heads=4, feed_forward=512, pooling="mean"),
                "heads": pairing.Config(audio=144, text=128, width=128, dropout=0.1),
            }
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.05, clip_norm=1.0),
        defaults=FrozenEncoders(),
        train=Train(epochs=60, batch_size=64, best="both_ways_10", patience=15),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=0.01, high=1.0, log=True),
                Range(field="model.parts.heads.dropout", low=0.0, high=0.6),
            )
        ),
    )


def smoke() -> Experiment:
    return shrunk(experiment())


def shrunk(recipe: Experiment) -> Experiment:
    """Small encoders, both from scratch."""
    sizes = {"audio.layers": 1, "audio.width": 16, "audio.heads": 2, "text.layers": 1, "text.heads": 2}
    sizes |= {"text.width": 32, "text.feed_forward": 64, "heads.audio": 16, "heads.text": 32, "heads.width": 16}
    return changed(
        recipe,
        {
            "train.steps": 4,
            "train.log_every": 2,
            "train.batch_size": 16,
            "checkpoint.init_from": "",
            **{f"model.parts.{name}": value for name, value in sizes.items()},
        },
    )
