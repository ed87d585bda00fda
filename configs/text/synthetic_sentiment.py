"""SYNTHETIC short reviews with negation, whose labels are flipped with a known probability.

source:   a seeded generator (suite.data.sources.datasets.SyntheticSentiment); no real text
data:     6,000 generated reviews, split 80/10/10
expected: test accuracy near 90 %, the best reachable (10 % of the labels are noise)
time:     under a minute on 2 CPU cores
command:  suite train text.synthetic_sentiment
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import SyntheticSentiment
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import transformer
from suite.tasks.text.classification import TextClassification


def experiment() -> Experiment:
    return Experiment(
        name="text.synthetic_sentiment",
        task=TextClassification(
            data=SyntheticSentiment(), tokenizer=SentencePiece(kind="word", vocab_size=300), max_length=64
        ),
        model=transformer.Config(layers=2, width=64, heads=4, feed_forward=128, dropout=0.1),
        optim=Optim(learning_rate=1e-3, warmup_steps=50, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=6, batch_size=64, ema=0.99),
        goal=Goal(metric="accuracy", at_least=0.87, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "optim.warmup_steps": 2,
            "model.width": 32,
            "model.layers": 1,
            "model.feed_forward": 64,
        },
    )
