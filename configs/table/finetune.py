"""Your own table with texts or pictures, read by published encoders: any column predicted from all others.

source:   your file, split 80/10/10 by a seeded hash where it has no splits; MiniLM and EfficientNet-Lite0, or the
          weights you name
data:     a CSV, TSV, JSONL or Parquet file; --target names the column to predict
expected: depends on the data
time:     depends on the data
command:  suite train table.finetune --data houses.csv --target price
"""

from dataclasses import replace

from suite.configs.table import predict
from suite.configs.text import sst2_minilm
from suite.configs.vision import finetune as pictures
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.tokenizers import Published
from suite.experiment.sections import Experiment, Precision
from suite.experiment.sections import replace as changed
from suite.models import efficientnet
from suite.tasks.table.defaults import TableDefaults

RATE = 0.05
"""Of an encoder's learning rate to that of what is new: 1e-4 to 2e-3."""


def experiment() -> Experiment:
    recipe = replace(predict.experiment(), name="table.finetune", precision=Precision(compute="bfloat16"))
    encoder = sst2_minilm.experiment().model
    return changed(
        recipe,
        {
            "model.parts.text": encoder,
            "model.parts.text.dropout": 0.1,
            "model.parts.text.attention_dropout": 0.1,
            "model.parts.image": efficientnet.lite0(outputs=64),
            # A third of the work of 224 x 224 pixels.
            "task.statistics": PixelStatistics(column="image_columns", part="image", size=(128, 128), channels=3),
            "task.ngrams": None,
            "task.tokenizer": Published(column="text_columns", part="text"),
            "defaults": TableDefaults(text_rate=RATE, text_frozen=(r"^text/.*tokens/",), image_rate=RATE),
            "checkpoint.init_from": {"text": sst2_minilm.weights(), "image": pictures.weights()},
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
            "model.parts.image.stem_width": 8,
            "model.parts.image.widths": (8,) * 7,
            "model.parts.image.blocks": (1,) * 7,
            "model.parts.image.head_width": 16,
            "checkpoint.init_from": "",
            "task.tokenizer.source": sst2_minilm.weights(),
        },
    )
