"""IMDB film reviews with a small transformer encoder from scratch: no published weights.

source:   Large Movie Review Dataset (ACL P11-1015); keras-io/bidirectional-lstm-imdb reaches 87.8 %
data:     aclImdb, archive or folder, in $SUITE_DATA/imdb: 25,000 reviews (5 % held out for validation), 25,000 test
expected: test accuracy 87.6 % (seed 0; goal 87.5 %)
time:     5 minutes on 2 CPU cores
command:  suite train text.imdb_encoder
"""

import os

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import transformer
from suite.tasks.text.classification import TextClassification


def experiment() -> Experiment:
    archive = os.path.join(os.environ.get("SUITE_DATA", "data"), "imdb", "aclImdb_labelled.tar.xz")
    return Experiment(
        name="text.imdb_encoder",
        task=TextClassification(
            data=Folder(path=archive, validation=0.05),
            tokenizer=SentencePiece(kind="word", vocab_size=30000),
            max_length=400,
            token_dropout=0.5,
            label_smoothing=0.1,
        ),
        model=transformer.Config(
            layers=1, width=128, heads=4, feed_forward=256, max_length=512, dropout=0.4, attention_dropout=0.1
        ),
        # 25,000 reviews are soon known by heart: half the words are left out, and two passes are enough.
        optim=Optim(learning_rate=1e-3, warmup_steps=300, weight_decay=0.05, clip_norm=1.0),
        train=Train(epochs=2, batch_size=32, ema=0.999, eval_every=372),
        pipeline=Pipeline(buckets=(128, 192, 256, 400)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="accuracy", at_least=0.875, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.eval_every": 4,
            "train.log_every": 2,
            "optim.warmup_steps": 2,
            "model.width": 32,
            "model.feed_forward": 64,
            "task.max_length": 64,
            "pipeline.buckets": (64,),
            "task.tokenizer.vocab_size": 1000,
        },
    )
