"""Your own texts, by a transformer trained on them alone: a CSV, TSV, JSONL or Parquet file, or one folder a class.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     columns text and label, or others named by --task.text and --task.label
expected: depends on the data; with under 50,000 texts or so text.classify answers better
time:     depends on the data
command:  suite train text.encoder --data reviews.csv --task.text review --task.label verdict
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import transformer
from suite.tasks.text.classification import TextClassification


def experiment() -> Experiment:
    return Experiment(
        name="text.encoder",
        task=TextClassification(
            data=Table(path=""), tokenizer=SentencePiece(vocab_size=4000), max_length=256, token_dropout=0.1
        ),
        model=transformer.Config(layers=2, width=128, heads=4, feed_forward=512, dropout=0.2),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=10, batch_size=32, patience=4, baseline=True),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.3, log=True),
                Range(field="model.dropout", low=0.1, high=0.5),
                Range(field="task.token_dropout", low=0.0, high=0.3),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "model.width": 32,
            "model.layers": 1,
            "model.feed_forward": 64,
            "task.tokenizer.vocab_size": 200,
        },
    )
