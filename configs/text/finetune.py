"""Your own texts, from published weights: a CSV, TSV, JSONL or Parquet file, or one folder a class.

source:   your file, split 80/10/10 by a seeded hash where it has no splits; MiniLM, or the weights you name
data:     columns text and label, or others named by --task.text and --task.label
expected: depends on the data
time:     depends on the data
command:  suite train text.finetune --data reviews.csv --checkpoint.init_from FOLDER
"""

from dataclasses import replace

from suite.configs.text import sst2_minilm
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    made = replace(sst2_minilm.experiment(), name="text.finetune", goal=None)
    return changed(
        made,
        {
            "task.data": Table(path=""),
            "task.text": "text",
            "task.max_length": 128,
            "model.dropout": 0.1,
            "model.attention_dropout": 0.1,
            "optim.learning_rate": 1e-4,
            "optim.warmup_steps": 0,
            "optim.warmup_fraction": 0.1,
            "optim.frozen": ("encoder/tokens/",),
            "train.epochs": 4,
            "train.batch_size": 32,
            "train.ema": 0.0,
            "train.eval_every": 0,
            "train.patience": 2,
            "train.baseline": True,
            "pipeline.buckets": (),
            "search": Search(
                space=(
                    Range(field="optim.learning_rate", low=2e-5, high=5e-4, log=True),
                    Range(field="model.dropout", low=0.0, high=0.3),
                    Choice(field="train.epochs", among=(2.0, 4.0, 8.0)),
                )
            ),
        },
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2})
