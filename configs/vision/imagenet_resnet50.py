"""ImageNet with ResNet-50.

source:   arXiv 1706.02677: 76.3 % validation accuracy after 90 epochs
data:     TFDS imagenet2012, prepared beforehand; it is not on the machine that the suite is developed on
expected: not run; validation accuracy 76 % is the goal
time:     not run; meant for 8 accelerators or more
command:  suite train vision.imagenet_resnet50
"""

from suite.data.preprocessing.image import Flip, PixelStatistics, ResizedCrop
from suite.data.sources.datasets import Tfds
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import Pipeline as Input
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.classification import ImageClassification


def experiment() -> Experiment:
    return Experiment(
        name="vision.imagenet_resnet50",
        task=ImageClassification(
            data=Tfds(name="imagenet2012"),
            statistics=PixelStatistics(size=(224, 224), channels=3),
            augment=(ResizedCrop(), Flip()),
            label_smoothing=0.1,
        ),
        model=resnet.resnet50(),
        # The paper's rate for this batch; five epochs of warm-up. Decay is decoupled: 5e-5 of the rate a step.
        optim=Optim(name="sgd", learning_rate=0.4, warmup_steps=6250, weight_decay=5e-5),
        precision=Precision(compute="bfloat16"),
        train=Train(epochs=90, batch_size=1024, ema=0.9999, log_every=100),
        pipeline=Input(workers=16, prefetch=8),
        goal=Goal(metric="accuracy", at_least=0.76, on="validation"),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 2,
            "train.batch_size": 4,
            "train.log_every": 1,
            "optim.warmup_steps": 1,
            "pipeline.workers": 0,
            "model.blocks": (1, 1, 1, 1),
            "model.widths": (16, 16, 16, 16),
            "model.stem_width": 8,
            "task.statistics.size": (64, 64),
        },
    )
