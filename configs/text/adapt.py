"""Published weights go on learning from your own texts without labels, and carry on in text.finetune.

A share of the tokens of each passage is hidden and said from the others, by MiniLM or what --checkpoint.init_from
text=FOLDER names: a BERT, MiniLM, RoBERTa or DistilBERT. Then: suite train text.finetune --data labelled with
--checkpoint.init_from RUN.

source:   arXiv 2004.10964; your file, split 80/10/10 by a seeded hash where it has no splits
data:     a column text, or another named by --task.text; a .txt file of lines; or texts in folders
expected: depends on the data
time:     depends on the data
command:  suite train text.adapt --data reviews.csv --task.text review
"""

from suite.configs.text import pretrain, sst2_minilm
from suite.data.preprocessing.tokenizers import Published
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    made = pretrain.experiment()
    encoder = changed(sst2_minilm.experiment(), {"model.dropout": 0.1, "model.attention_dropout": 0.1}).model
    return changed(
        made,
        {
            "name": "text.adapt",
            "task.tokenizer": Published(part="text"),
            "model.parts": {**made.model.parts, "text": encoder},
            "optim.learning_rate": 2e-4,
            "train.epochs": 3,
            "train.batch_size": 32,
            "checkpoint.init_from": {"text": sst2_minilm.weights()},
        },
    )


def smoke() -> Experiment:
    """Fresh parameters, so that the model can be small; the tokenizer is still that of the weights."""
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.batch_size": 8,
            "train.log_every": 2,
            "task.max_length": 32,
            "checkpoint.init_from": "",
            "task.tokenizer.source": sst2_minilm.weights(),
            "model.parts.text.layers": 1,
            "model.parts.text.heads": 2,
            "model.parts.text.width": 32,
            "model.parts.text.feed_forward": 64,
        },
    )
