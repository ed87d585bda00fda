"""Your own images: one folder a class.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays)
expected: depends on the data
time:     depends on the data
command:  suite train vision.classify --data photos/
"""

from suite.data.preprocessing.image import Flip, PixelStatistics, ResizedCrop
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.classification import ImageClassification


def experiment() -> Experiment:
    return Experiment(
        name="vision.classify",
        task=ImageClassification(
            data=Folder(path=""),
            statistics=PixelStatistics(size=(64, 64), channels=3),
            augment=(Flip(), ResizedCrop(smallest=0.5)),
            label_smoothing=0.1,
        ),
        # 0.3 M parameters. Few pictures from scratch; from published weights: vision.finetune.
        model=resnet.small(stem_stride=2, stem_width=32, blocks=(1, 1, 1), widths=(32, 64, 128), dropout=0.2),
        optim=Optim(learning_rate=2e-3, warmup_fraction=0.05, weight_decay=0.05),
        train=Train(epochs=30, batch_size=64, patience=8),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=1e-2, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="model.dropout", low=0.0, high=0.5),
                Range(field="task.label_smoothing", low=0.0, high=0.2),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(), {"train.steps": 6, "train.log_every": 2, "model.stem_width": 16, "model.widths": (16, 16, 16)}
    )
