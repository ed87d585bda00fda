"""Your own pairs of texts: a table with a column to read and a column to say, or two files of lines.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     columns source and target, or others named by --task.source_text and --task.target_text; or a folder with
          two files a split, train.en and train.de
expected: depends on the data
time:     depends on the data
command:  suite train text.translate --data pairs.tsv
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.decoding.generation import Decoding
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import seq2seq
from suite.tasks.text.translation import Translation


def experiment() -> Experiment:
    return Experiment(
        name="text.translate",
        task=Translation(
            data=Table(path=""),
            tokenizer=SentencePiece(vocab_size=8000, kind="bpe", lowercase=False),
            max_length=128,
            decoding=Decoding(tokens=128, beams=4),
        ),
        model=seq2seq.Config(layers=3, width=256, heads=4, feed_forward=1024, dropout=0.2),
        optim=Optim(
            learning_rate=1e-3, warmup_fraction=0.1, end_fraction=0.02, weight_decay=0.01, beta2=0.98, clip_norm=1.0
        ),
        train=Train(epochs=20, batch_size=64, ema=0.995, best="bleu", patience=4),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="optim.weight_decay", low=1e-3, high=0.1, log=True),
                Range(field="model.dropout", low=0.1, high=0.4),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "model.layers": 1,
            "model.heads": 2,
            "model.width": 32,
            "model.feed_forward": 64,
            "task.tokenizer.vocab_size": 300,
            "task.decoding.tokens": 16,
            "task.decoding.beams": 2,
        },
    )
