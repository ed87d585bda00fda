"""CIFAR-10 with the paper's network of 20 layers, on a JPEG copy of the images.

source:   arXiv 1512.03385: 8.75 % test error after 64,000 steps, on the lossless images
data:     $SUITE_DATA/cifar10_jpeg, archives of 50,000 training images (5 % held out for validation) and 10,000 of test
expected: test accuracy 80.4 % (seed 0; goal 80 %, set afterwards) after 16 epochs, 5,952 of the paper's 64,000 steps,
          on images of some 900 bytes. Validation after each: 36.6, 47.6, 62.7, 61.8, 64.8, 68.3, 74.0, 71.0, 75.7,
          75.5, 76.9, 78.4, 77.7, 78.9, 79.3, 79.6 %. Eight epochs with ten times the weight decay: test 77.1 %
time:     35 minutes on 2 CPU cores beside tests, with oneDNN (extra cpu)
command:  suite train vision.cifar10_resnet20
"""

import os

from suite.data.preprocessing.image import Crop, Flip
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.classification import ImageClassification


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("SUITE_DATA", "data"), "cifar10_jpeg")
    return Experiment(
        name="vision.cifar10_resnet20",
        task=ImageClassification(data=Folder(path=folder, validation=0.05), augment=(Flip(), Crop(padding=4))),
        model=resnet.cifar20(),
        optim=Optim(name="sgd", learning_rate=0.1, warmup_steps=400, weight_decay=5e-4),
        precision=Precision(compute="bfloat16"),
        train=Train(epochs=16, batch_size=128, ema=0.998, eval_batch_size=500, log_every=50),
        goal=Goal(metric="accuracy", at_least=0.8, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 2,
            "train.batch_size": 8,
            "train.log_every": 1,
            "optim.warmup_steps": 1,
            "model.blocks": (1, 1, 1),
            "model.stem_width": 4,
            "model.widths": (4, 8, 8),
        },
    )
