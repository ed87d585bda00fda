"""Shakespeare, a character at a time, with a small GPT from scratch.

source:   char-GPT of karpathy/nanoGPT: 6 layers of width 384, context 256, reaches 1.4697 nats a character on a GPU
data:     $SUITE_DATA/tinyshakespeare: 1,115,394 characters, the last 10 % held out for validation
expected: validation accuracy of the next character 56.3 % (goal 50 %), loss 1.492 nats a character, with 1.8 M
          parameters; one seed, the last step is the best
time:     76 minutes on 2 CPU cores with pauses and beside tests; some 28 at the 58 examples/s seen alone
command:  suite train text.shakespeare_gpt
"""

import os

from suite.data.preprocessing.characters import Characters
from suite.data.sources.running_text import RunningText
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Pipeline, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import decoder
from suite.tasks.text.language_modelling import LanguageModelling


def experiment() -> Experiment:
    file = os.path.join(os.environ.get("SUITE_DATA", "data"), "tinyshakespeare", "input.txt")
    return Experiment(
        name="text.shakespeare_gpt",
        task=LanguageModelling(data=RunningText(path=file), vocabulary=Characters(), context=128, overlap=8),
        model=decoder.Config(
            layers=4,
            width=192,
            heads=6,
            positions="rotary",
            activation="gelu",
            max_length=128,
            dropout=0.1,
            attention_dropout=0.0,
        ),
        optim=Optim(
            learning_rate=2e-3, warmup_steps=100, end_fraction=0.05, weight_decay=0.1, beta2=0.99, clip_norm=1.0
        ),
        train=Train(steps=3000, batch_size=32, eval_every=500, eval_batch_size=64, best="-loss"),
        pipeline=Pipeline(buckets=(129,)),
        precision=Precision(compute="bfloat16"),
        goal=Goal(metric="accuracy", at_least=0.5, on="validation"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.eval_every": 4,
            "train.log_every": 2,
            "optim.warmup_steps": 2,
            "model.layers": 1,
            "model.heads": 2,
            "model.width": 32,
            "task.decoding.tokens": 8,
            "task.context": 32,
            "train.eval_batch_size": 512,
            "pipeline.buckets": (33,),
        },
    )
