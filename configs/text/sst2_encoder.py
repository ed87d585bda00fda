"""SST-2 with a small transformer encoder from scratch: no published weights.

source:   GLUE SST-2 (phrases); a CNN with random vectors reaches 82.7 % (arXiv 1408.5882, on its own test split)
data:     TFDS glue/sst2 2.0.0: 67,349 training phrases, 872 validation sentences
expected: validation accuracy 82.4 % (three seeds, 82.1 to 82.6; goal 81.5 %)
time:     2 minutes on 2 CPU cores
command:  suite train text.sst2_encoder
"""

from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Tfds
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import transformer
from suite.tasks.text.classification import TextClassification


def experiment() -> Experiment:
    return Experiment(
        name="text.sst2_encoder",
        task=TextClassification(
            data=Tfds(name="glue/sst2"),
            text="sentence",
            tokenizer=SentencePiece(kind="word", vocab_size=14000),
            max_length=64,
            token_dropout=0.2,
            label_smoothing=0.1,
        ),
        model=transformer.Config(layers=2, width=128, heads=4, feed_forward=512, dropout=0.3, attention_dropout=0.1),
        # The training phrases overlap, so an embedding is soon learnt by heart: it is decayed like any other matrix.
        optim=Optim(
            learning_rate=7e-4, warmup_steps=500, weight_decay=0.3, clip_norm=1.0, no_decay=(r"bias$", r"scale$")
        ),
        train=Train(epochs=2, batch_size=64, ema=0.999, eval_every=263),
        pipeline=Pipeline(buckets=(8, 16, 32, 64)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="accuracy", at_least=0.815, on="validation"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.eval_every": 6,
            "train.log_every": 2,
            "optim.warmup_steps": 2,
            "model.width": 32,
            "model.layers": 1,
            "model.feed_forward": 64,
            "task.tokenizer.vocab_size": 1000,
        },
    )
