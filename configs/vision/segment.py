"""Your own pictures with masks: a class for each pixel.

EfficientNet-Lite0, or what --checkpoint.init_from backbone=SOURCE names, below a U-Net (--model.decoder fpn: a feature
pyramid).

source:   your folder, split 80/10/10 by a seeded hash, or with splits of its own
data:     FOLDER/images/NAME.jpg and FOLDER/masks/NAME.png, or COCO JSON with polygons or runs
expected: depends on the data
time:     depends on the data
command:  suite train vision.segment --data photos/
"""

from suite.configs.vision.finetune import weights
from suite.data.augment import Colour
from suite.data.box_augment import FlipBoxes, ScaleCrop
from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.segmentation import MaskFolder
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import efficientnet, segmenter
from suite.tasks.vision.segmentation import SemanticSegmentation


def experiment() -> Experiment:
    return Experiment(
        name="vision.segment",
        task=SemanticSegmentation(
            data=MaskFolder(path=""),
            statistics=PixelStatistics(size=(256, 256), channels=3, part="backbone"),
            augment=(ScaleCrop(smallest=0.75, largest=1.5), FlipBoxes(), Colour()),
        ),
        model=segmenter.Config(parts={"backbone": efficientnet.lite0()}),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.01, rates=(("^backbone", 0.2),)),
        train=Train(epochs=30, batch_size=8, eval_batch_size=16, best="mIoU", patience=10),
        checkpoint=Checkpoint(init_from={"backbone": weights()}),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=2e-4, high=3e-3, log=True),
                Range(field="task.dice_weight", low=0.0, high=1.0),
                Choice(field="model.decoder", among=("unet", "fpn")),
            )
        ),
    )


def smoke() -> Experiment:
    """Fresh parameters of a small network, on small pictures."""
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.log_every": 2,
            "task.statistics.size": (32, 32),
            "model.parts.backbone.stem_width": 8,
            "model.parts.backbone.widths": (8,) * 7,
            "model.parts.backbone.blocks": (1,) * 7,
            "model.width": 16,
            "model.frozen_statistics": False,
            "checkpoint.init_from": "",
        },
    )
