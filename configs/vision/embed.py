"""Your own images, as vectors: one folder a class, or a table of pairs.

Images of one class get vectors that are near each other, by which others are found, also of classes that training has
not seen. Pairs of images: --task.other COLUMN --task.label ''. From published weights: --checkpoint.init_from FOLDER
and a model of their family.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays); or a table with two columns of files
expected: depends on the data
time:     depends on the data
command:  suite train vision.embed --data photos/
"""

from suite.data.sources.datasets import Folder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.defaults import EmbeddedPictures
from suite.tasks.vision.embedding import ImageEmbedding


def experiment() -> Experiment:
    return Experiment(
        name="vision.embed",
        task=ImageEmbedding(data=Folder(path="")),
        model=resnet.small(stem_stride=0, stem_pool=None, stem_width=0, blocks=(), widths=()),
        optim=Optim(learning_rate=2e-3, warmup_fraction=0.05, weight_decay=0.05),
        defaults=EmbeddedPictures(),
        train=Train(epochs=30, batch_size=128, best="", patience=8),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=1e-2, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.5, log=True),
                Range(field="task.temperature", low=0.03, high=0.3, log=True),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(), {"train.steps": 6, "train.log_every": 2, "model.stem_width": 16, "model.widths": (16, 16, 16)}
    )
