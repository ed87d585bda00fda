"""Your own texts in which spans are marked, such as names: CoNLL files, or a table with a column of spans.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     a word and its tag a line (BIO, IOB1, BIOES), or columns text and spans, a list of {"start", "end", "label"}
          in characters; other names by --task.text and --task.target
expected: depends on the data
time:     depends on the data
command:  suite train text.tag --data sentences.conll
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import transformer
from suite.tasks.text.defaults import ByStart
from suite.tasks.text.tagging import TextTagging


def experiment() -> Experiment:
    return Experiment(
        name="text.tag",
        task=TextTagging(data=Table(path=""), tokenizer=None, max_length=256),
        defaults=ByStart(learnt=SentencePiece(vocab_size=4000, lowercase=False)),
        model=transformer.Config(layers=2, width=128, heads=4, feed_forward=512, dropout=0.2, pooling="none"),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=20, batch_size=32, best="entity_f1", patience=5),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.3, log=True),
                Range(field="model.dropout", low=0.1, high=0.5),
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
            "defaults.learnt.vocab_size": 200,
        },
    )
