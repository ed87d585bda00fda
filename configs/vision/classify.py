"""Your own images: one folder a class.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays)
expected: depends on the data
time:     depends on the data; 60,000 grey pictures of 28 x 28 pixels take some five minutes on 2 CPU cores
command:  suite train vision.classify --data photos/
"""

from suite.data.sources.datasets import Folder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.classification import ImageClassification
from suite.tasks.vision.defaults import ByPictures


def experiment() -> Experiment:
    return Experiment(
        name="vision.classify",
        task=ImageClassification(data=Folder(path=""), label_smoothing=0.1),
        # Some 0.3 M parameters. Few pictures from scratch; from published weights: vision.finetune.
        model=resnet.small(stem_stride=0, stem_pool=None, stem_width=0, blocks=(), widths=(), dropout=0.2),
        optim=Optim(learning_rate=3e-3, warmup_fraction=0.1, weight_decay=0.05),
        train=Train(epochs=0, batch_size=0, eval_batch_size=256, baseline=True),
        defaults=ByPictures(),
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
