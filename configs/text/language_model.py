"""Your own text: a .txt file, or a table or folder of texts; the model learns to go on from a beginning.

source:   your file; a tenth each for validation and test: the end of a plain text file, else a seeded share of records
data:     running text, a few hundred thousand characters at least
expected: depends on the data
time:     depends on the data
command:  suite train text.language_model --data my.txt
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.running_text import RunningText
from suite.decoding.generation import Decoding
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import decoder
from suite.tasks.text.language_modelling import LanguageModelling


def experiment() -> Experiment:
    return Experiment(
        name="text.language_model",
        task=LanguageModelling(
            data=RunningText(path=""),
            vocabulary=SentencePiece(vocab_size=4000, kind="bpe", lowercase=False),
            context=128,
            stretch=512,
            overlap=4,
            decoding=Decoding(tokens=32, temperature=0.8, top_p=0.95),
        ),
        model=decoder.Config(
            layers=4,
            width=256,
            heads=8,
            feed_forward=704,
            norm="rms",
            positions="rotary",
            activation="swiglu",
            bias=False,
            feed_forward_bias=False,
            max_length=128,
            dropout=0.1,
            attention_dropout=0.0,
        ),
        optim=Optim(
            learning_rate=1e-3, warmup_fraction=0.05, end_fraction=0.05, weight_decay=0.1, beta2=0.99, clip_norm=1.0
        ),
        train=Train(epochs=4, batch_size=32, best="-loss", patience=3),
        pipeline=Pipeline(buckets=(129,)),
        precision=Precision(compute="bfloat16"),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),
                Range(field="optim.weight_decay", low=0.01, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.3),
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
            "task.vocabulary.vocab_size": 300,
            "task.decoding.tokens": 8,
            "task.context": 32,
            "task.stretch": 96,
            "pipeline.buckets": (33,),
        },
    )
