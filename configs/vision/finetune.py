"""Your own images, from published weights: one folder a class.

A ResNet in Hugging Face's, torchvision's or timm's names. The head is new and learns ten times as fast as the body, of
which each block nearer the image learns more slowly; --optim.frozen "^stem" "^stages/0" leaves the first ones alone.
A vision transformer instead: copy this file, with vit.base() in the model's place.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays)
expected: depends on the data
time:     depends on the data
command:  suite train vision.finetune --data photos/ --checkpoint.init_from FOLDER
"""

from suite.data.preprocessing.image import Flip, PixelStatistics, ResizedCrop
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import resnet
from suite.tasks.vision.classification import ImageClassification


def experiment() -> Experiment:
    return Experiment(
        name="vision.finetune",
        task=ImageClassification(
            data=Folder(path=""),
            statistics=PixelStatistics(channels=3),
            augment=(ResizedCrop(smallest=0.25), Flip()),
            label_smoothing=0.1,
        ),
        # The sizes are those of the weights, which replace them; so are the images' size, mean and deviation.
        model=resnet.resnet18(),
        optim=Optim(
            learning_rate=2e-4, warmup_fraction=0.1, weight_decay=0.05, layer_decay=0.9, rates=(("^head", 10.0),)
        ),
        precision=Precision(compute="bfloat16"),
        train=Train(epochs=10, batch_size=32, patience=4, baseline=True),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-5, high=1e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.3, log=True),
                Choice(field="optim.layer_decay", among=(0.75, 0.9, 1.0)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 4, "train.log_every": 2})
