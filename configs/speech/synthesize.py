"""Your own voice: texts spoken, learnt from recordings with what is said in them.

Symbols are characters, whose durations are found by an alignment that is learnt beside. Answers are made by Griffin and
Lim; with --task.vocoder RUN, a run of speech.vocode, by that vocoder.

source:   your manifest, split 80/10/10 by a seeded hash where no line names its split; or a folder in LJSpeech's layout
data:     manifest.jsonl with {"audio": "a.wav", "text": "what is said"} a line; --task.speaker COLUMN: several voices;
          --task.text COLUMN --task.spelling.unit phones: phones between blanks; --task.durations COLUMN: their seconds
expected: depends on the data
time:     depends on the data
command:  suite train speech.synthesize --data manifest.jsonl
"""

from suite.data.sources.speech import AudioManifest
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import fastspeech
from suite.models.parts import Parts
from suite.nn.audio.spectral import LogMel
from suite.tasks.speech.synthesis import ACOUSTIC, SpeechSynthesis
from suite.tasks.speech.synthesis_defaults import Vocoded
from suite.tasks.speech.voice import VoiceFeatures


def experiment() -> Experiment:
    return Experiment(
        name="speech.synthesize",
        task=SpeechSynthesis(
            data=AudioManifest(path=""),
            features=VoiceFeatures(part=ACOUSTIC, front_end=LogMel(window=640, hop=200, fft=1024)),
        ),
        model=Parts(parts={ACOUSTIC: fastspeech.Config()}),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.05, weight_decay=0.01, clip_norm=1.0),
        defaults=Vocoded(),
        train=Train(epochs=100, batch_size=16, ema=0.999, best="-mcd13", patience=20),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field=f"model.parts.{ACOUSTIC}.dropout", low=0.0, high=0.4),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), tiny())


def tiny() -> dict[str, object]:
    """Changes that make a recipe of speech synthesis small."""
    sizes = {"width": 16, "layers": 1, "predictor": 8, "decoder_width": 16, "decoder_layers": 1, "aligner": 8}
    return {
        "train.steps": 4,
        "train.log_every": 2,
        "train.batch_size": 4,
        "task.features.examples": 16,
        "task.iterations": 2,
        **{f"model.parts.{ACOUSTIC}.{name}": size for name, size in sizes.items()},
    }
