"""Your own pairs of texts, as vectors: texts that belong together get vectors that are near each other.

From published weights, MiniLM or those you name. Texts of one class instead of pairs: --task.other '' --task.label
COLUMN; pairs with a score of their likeness: --task.similarity COLUMN.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     columns text and other, or others named by --task.text and --task.other
expected: depends on the data
time:     depends on the data
command:  suite train text.embed --data pairs.csv
"""

from dataclasses import replace

from suite.configs.text import sst2_minilm
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.evaluation.embedding import EmbeddingDefaults
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.tasks.text.embedding import TextEmbedding


def experiment() -> Experiment:
    made = replace(
        sst2_minilm.experiment(),
        name="text.embed",
        task=TextEmbedding(data=Table(path=""), tokenizer=Published(), max_length=128),
        defaults=EmbeddingDefaults(),
        goal=None,
    )
    return changed(
        made,
        {
            "optim.learning_rate": 5e-5,
            "optim.warmup_steps": 0,
            "optim.warmup_fraction": 0.1,
            "optim.rates": (),
            "train.best": "",
            "train.epochs": 4,
            "train.batch_size": 64,
            "train.ema": 0.0,
            "train.eval_every": 0,
            "train.patience": 2,
            "pipeline.buckets": (),
            "search": Search(
                space=(
                    Range(field="optim.learning_rate", low=1e-5, high=2e-4, log=True),
                    Range(field="task.temperature", low=0.02, high=0.2, log=True),
                    Choice(field="train.epochs", among=(1.0, 2.0, 4.0, 8.0)),
                )
            ),
        },
    )


def smoke() -> Experiment:
    return sst2_minilm.shrunk(experiment())
