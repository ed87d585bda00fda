"""Your own recordings with what is said in them, by Whisper: published weights that are fine-tuned, or a fresh model.

Give the weights by --checkpoint.init_from and the language of the recordings by --task.language; the model's sizes are
theirs. --finetune lora trains a few numbers beside them. Without weights a small model and its pieces are learnt from
your recordings alone, which takes many hours of speech.

source:   your manifest, split 80/10/10 by a seeded hash where no line names its split
data:     manifest.jsonl with {"audio": "a.wav", "text": "what is said"} a line, perhaps with "language" and "task"
expected: depends on the data
time:     depends on the data
command:  suite train speech.transcribe --data manifest.jsonl
"""

from suite.data.sources.speech import AudioManifest
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import whisper
from suite.nn.audio.spectral import SpecAugment
from suite.tasks.speech.transcription import Transcription


def experiment() -> Experiment:
    return Experiment(
        name="speech.transcribe",
        task=Transcription(data=AudioManifest(path=""), spec_augment=SpecAugment()),
        model=whisper.Config(inputs=80, layers=4, width=256, heads=4, feed_forward=1024, decoder_layers=4, dropout=0.1),
        optim=Optim(learning_rate=1e-4, warmup_fraction=0.1, weight_decay=0.01, clip_norm=1.0),
        train=Train(epochs=10, batch_size=8, best="-wer", patience=3),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=1e-5, high=1e-3, log=True),
                Range(field="optim.weight_decay", low=1e-3, high=0.1, log=True),
                Range(field="model.dropout", low=0.0, high=0.3),
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
            "task.max_seconds": 2.0,
            "task.longest": 4.0,
            "task.tokens.vocab_size": 300,
            "task.decoding.tokens": 24,
            "model.max_length": 100,
            "model.decoder_length": 32,
            "model.width": 16,
            "model.heads": 2,
            "model.feed_forward": 32,
            "model.layers": 1,
            "model.decoder_layers": 1,
        },
    )
