"""CIFAR-10 without labels, by SimCLR, on a JPEG copy of the images; then a few labels are enough.

source:   arXiv 2002.05709, which trains a ResNet-50 for 1,000 epochs with batches of 4,096 (linear probe 94 %)
data:     $SUITE_DATA/cifar10_jpeg, archives of 50,000 training images (5 % held out for validation) and 10,000 of test
expected: test linear_accuracy 56.1 % (goal 40 %) and knn_accuracy 50.9 %, each by 5,000 labelled images, seed 0.
          vision.classify on 500 labels, three draws: 51.8 % from that run, 47.5 % from scratch, 4.4 points more
          (95 %: 0.6 to 8.1; wanted were 8)
time:     42 minutes on 2 CPU cores, beside other programs
command:  suite train vision.cifar10_simclr
"""

import os

from suite.data.sources.unlabelled import Files
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import dnn, resnet
from suite.models.parts import Parts
from suite.tasks.vision.pretraining import ContrastivePretraining


def experiment() -> Experiment:
    folder = os.path.join(os.environ.get("SUITE_DATA", "data"), "cifar10_jpeg")
    return Experiment(
        name="vision.cifar10_simclr",
        task=ContrastivePretraining(data=Files(path=folder, validation=0.05)),
        model=Parts(
            parts={
                "image": resnet.small(stem_pool=True, stem_width=32, blocks=(1, 1, 1), widths=(32, 64, 128)),
                "projector": dnn.Config(hidden=(256,), outputs=128),
            },
            feeds={"projector": "image"},
        ),
        optim=Optim(learning_rate=2e-3, warmup_steps=100, weight_decay=1e-2),
        train=Train(epochs=12, batch_size=256, log_every=50, best=""),
        goal=Goal(metric="linear_accuracy", at_least=0.4, on="test"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 2,
            "train.batch_size": 16,
            "train.log_every": 1,
            "task.probed": 64,
            "optim.warmup_steps": 1,
            "model.parts.image.stem_width": 4,
            "model.parts.image.widths": (4, 8, 8),
            "model.parts.projector.hidden": (16,),
            "model.parts.projector.outputs": 8,
        },
    )
