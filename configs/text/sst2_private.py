"""SST-2 with differential privacy: a linear layer over MiniLM's vectors, which stay as published; (3, 1e-5)-private.

source:   sentence-transformers/all-MiniLM-L6-v2
data:     TFDS glue/sst2 2.0.0: 67,349 training phrases, 872 validation sentences
expected: validation accuracy 80.6 % (goal 78 %), at epsilon 1.86: two of six epochs, with more noise than two take
time:     17 minutes on 2 CPU cores, beside other trainings
command:  suite train text.sst2_private
"""

from suite.configs.text import sst2_minilm
from suite.experiment.goal import Goal, Range, Search
from suite.experiment.privacy import Privacy
from suite.experiment.sections import Experiment, Optim
from suite.experiment.sections import replace as changed

CHANGES = {
    "name": "text.sst2_private",
    "task.label_smoothing": 0.0,
    "optim": Optim(name="sgd", learning_rate=4.0, schedule="constant", beta1=0.9),
    "finetune.kind": "head",
    "privacy": Privacy(epsilon=3.0, delta=1e-5, clip_norm=1.0, microbatch=128),
    "train.epochs": 2.0,
    "train.batch_size": 4096,
    "train.eval_every": 11,
    "train.log_every": 11,
    "train.ema": 0.9,
    "goal": Goal(metric="accuracy", at_least=0.78, on="validation"),
    "search": Search(space=(Range(field="optim.learning_rate", low=1.0, high=16.0, log=True),)),
}


def experiment() -> Experiment:
    return changed(sst2_minilm.experiment(), CHANGES)


def smoke() -> Experiment:
    small = {"train.batch_size": 16, "privacy.microbatch": 8, "train.steps": 2, "train.eval_every": 2}
    return changed(sst2_minilm.shrunk(experiment()), small)
