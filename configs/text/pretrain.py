"""Your own texts without labels: an encoder learns from them what carries on in text.encoder and text.finetune.

A share of the tokens of each passage is hidden and said from the others. Then: suite train text.encoder --data labelled
with --checkpoint.init_from RUN. From published weights: text.adapt.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     a column text, or another named by --task.text; a .txt file of lines; or texts in folders
expected: depends on the data
time:     depends on the data
command:  suite train text.pretrain --data reviews.csv --task.text review
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import masked_head, transformer
from suite.models.parts import Parts
from suite.tasks.text.pretraining import MaskedLanguageModelling


def experiment() -> Experiment:
    return Experiment(
        name="text.pretrain",
        task=MaskedLanguageModelling(data=Table(path=""), tokenizer=SentencePiece(vocab_size=8000, part="text")),
        model=Parts(
            parts={
                # Rotary positions: with learned ones a small encoder stays at the frequencies of tokens for long.
                "text": transformer.Config(layers=4, width=192, heads=4, feed_forward=768, positions="rotary"),
                "predictor": masked_head.Config(),
            },
            feeds={"predictor": "text"},
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.01, beta2=0.98, clip_norm=1.0),
        train=Train(epochs=5, batch_size=64, best="loss"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.batch_size": 8,
            "train.log_every": 2,
            "task.max_length": 32,
            "task.tokenizer.vocab_size": 200,
            "model.parts.text.heads": 2,
            "model.parts.text.width": 32,
            "model.parts.text.layers": 1,
            "model.parts.text.feed_forward": 64,
        },
    )
