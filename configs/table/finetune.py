"""Your own table with texts, read by a published encoder: any column predicted from all others.

source:   your file, split 80/10/10 by a seeded hash where it has no splits; MiniLM, or the weights you name
data:     a CSV, TSV, JSONL or Parquet file; --target names the column to predict
expected: depends on the data
time:     depends on the data
command:  suite train table.finetune --data houses.csv --target price
"""

from dataclasses import replace

from suite.configs.table import predict
from suite.configs.text import sst2_minilm
from suite.data.preprocessing.tokenizers import Published
from suite.experiment.sections import Experiment, Precision
from suite.experiment.sections import replace as changed
from suite.tasks.table.defaults import TableDefaults

RATE = 0.05
"""Of the encoder's learning rate to that of what is new: 1e-4 to 2e-3."""


def experiment() -> Experiment:
    recipe = replace(predict.experiment(), name="table.finetune", precision=Precision(compute="bfloat16"))
    encoder = sst2_minilm.experiment().model
    return changed(
        recipe,
        {
            "model.parts.text": encoder,
            "model.parts.text.dropout": 0.1,
            "model.parts.text.attention_dropout": 0.1,
            "task.ngrams": None,
            "task.tokenizer": Published(column="text_columns", part="text"),
            "defaults": TableDefaults(text_rate=RATE, text_frozen=(r"^text/.*tokens/",)),
            "checkpoint.init_from": {"text": sst2_minilm.weights()},
        },
    )


def smoke() -> Experiment:
    """Fresh parameters, so that the encoder can be small; the tokenizer is still that of the weights."""
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "model.parts.table.hidden": (16,),
            "model.parts.table.members": 2,
            "model.parts.text.layers": 1,
            "model.parts.text.heads": 2,
            "model.parts.text.width": 32,
            "model.parts.text.feed_forward": 64,
            "checkpoint.init_from": "",
            "task.tokenizer.source": sst2_minilm.weights(),
        },
    )
