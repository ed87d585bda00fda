"""Fashion-MNIST with ResNet-18 for small images.

source:   zalandoresearch/fashion-mnist lists 94.9 % for a ResNet-18 with augmentation
data:     Fashion-MNIST (TFDS fashion_mnist 3.0.1), 5 % of train held out for validation
expected: not measured yet; test accuracy 94 % is the goal
time:     an hour on 2 CPU cores, estimated
command:  suite train vision.fashion_mnist_resnet18
"""

from dataclasses import replace

from configs.vision import fashion_mnist_resnet
from suite.config import Experiment, Goal, Train
from suite.config import replace as changed
from suite.data.image import Crop, Flip
from suite.models import resnet


def experiment() -> Experiment:
    small = fashion_mnist_resnet.experiment()
    # Few epochs learn from images as they are; parts of them cut out would ask for many more.
    whole = changed(small, {"task.augment": (Flip(), Crop(padding=2)),
                            "optim.warmup_steps": 300, "optim.weight_decay": 5e-3})  # fmt: skip
    return replace(
        whole,
        name="vision.fashion_mnist_resnet18",
        # 11.2 M parameters. The first stride halves the time.
        model=resnet.small(stem_stride=2),
        train=Train(epochs=4, batch_size=128, ema=0.995, eval_batch_size=500, log_every=50),
        goal=Goal(metric="accuracy", at_least=0.94, on="test"),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 2, "train.batch_size": 8, "train.log_every": 1,
                                  "optim.warmup_steps": 1, "model.stem_width": 8, "model.widths": (8, 8, 16, 16),
                                  "model.blocks": (1, 1, 1, 1)})  # fmt: skip
