"""Fashion-MNIST with ResNet-18 for small images.

source:   zalandoresearch/fashion-mnist lists 94.9 % for a ResNet-18 with augmentation
data:     Fashion-MNIST (TFDS fashion_mnist 3.0.1), 5 % of train held out for validation
expected: test accuracy 91.9 % (seed 0; goal 91.5 %, set afterwards) after eight epochs, validation 81.5, 87.8, 88.0,
          90.5, 90.8, 91.6, 92.2 and 92.4 %. vision.fashion_mnist_resnet has 38 epochs, for 93.8 %
time:     43 minutes on 2 CPU cores beside tests, pauses included, with oneDNN (extra cpu); not yet measured alone
command:  suite train vision.fashion_mnist_resnet18
"""

from dataclasses import replace

from suite.configs.vision import fashion_mnist_resnet
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet


def experiment() -> Experiment:
    small = fashion_mnist_resnet.experiment()
    return replace(
        small,
        name="vision.fashion_mnist_resnet18",
        # 11.2 M parameters. On 28 pixels the first stride saves three quarters of the time.
        model=resnet.small(stem_stride=2),
        optim=replace(small.optim, warmup_steps=300, weight_decay=5e-4),
        train=Train(epochs=8, batch_size=128, ema=0.998, eval_batch_size=500, log_every=50),
        goal=Goal(metric="accuracy", at_least=0.915, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 2,
            "train.batch_size": 8,
            "train.log_every": 1,
            "optim.warmup_steps": 1,
            "model.stem_width": 8,
            "model.widths": (8, 8, 16, 16),
            "model.blocks": (1, 1, 1, 1),
        },
    )
