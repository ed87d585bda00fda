"""Pictures like your own: one folder a class.

Pictures without classes: --task.label ''. A transformer in the U-Net's place: copy this file with dit.Config().

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays)
expected: depends on the data; some thousand pictures are needed
time:     depends on the data; 400,000 pictures of 28 x 28 pixels take about an hour on 2 CPU cores
command:  suite train vision.generate --data photos/
"""

from suite.data.sources.datasets import Folder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import unet
from suite.tasks.vision.generation import ImageGeneration
from suite.tasks.vision.generation_defaults import GeneratedPictures


def experiment() -> Experiment:
    return Experiment(
        name="vision.generate",
        task=ImageGeneration(data=Folder(path="")),
        model=unet.Config(patch=0, widths=(), blocks=1, attention=()),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.05, clip_norm=1.0),
        # A long average makes better pictures than any single state, and the last one is the best.
        train=Train(epochs=0, batch_size=64, ema=0.999, eval_batch_size=256, best=""),
        defaults=GeneratedPictures(),
        search=Search(space=(Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),)),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "model.widths": (16, 16),
            "model.embedding": 16,
            "task.steps": 2,
            "task.pictures": 64,
        },
    )
