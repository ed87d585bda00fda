"""Your own pictures with boxes: things are found, each with its class and a score.

FCOS on EfficientNet-Lite0 with published weights. COCO JSON, Pascal VOC XML, YOLO text files and tables are read as
they are; size of the canvas, augmentation and epochs are chosen by a look at them.

source:   your pictures, split 80/10/10 by a seeded hash, or as files, folders or a column name the splits
data:     FOLDER of pictures with COCO .json, VOC .xml, YOLO .txt and data.yaml, or a table (see docs/tasks)
expected: depends on the data
time:     depends on the data
command:  suite train vision.detect --data photos/
"""

from suite.configs.vision.finetune import weights
from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.detection import BoxFolder
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import efficientnet, fcos
from suite.tasks.vision.detection import ObjectDetection
from suite.tasks.vision.detection_defaults import ByBoxes


def experiment() -> Experiment:
    return Experiment(
        name="vision.detect",
        task=ObjectDetection(data=BoxFolder(path=""), statistics=PixelStatistics(channels=3, part="backbone")),
        model=fcos.Config(parts={"backbone": efficientnet.lite0()}),
        optim=Optim(
            learning_rate=2e-3,
            warmup_fraction=0.05,
            weight_decay=0.05,
            clip_norm=10.0,
            frozen=(r"^backbone/stem/", r"^backbone/stages/[01]/"),
            rates=((r"^backbone/", 0.1),),
        ),
        train=Train(epochs=0, batch_size=8, ema=0.995, best="mAP", patience=10),
        checkpoint=Checkpoint(init_from={"backbone": weights()}),
        defaults=ByBoxes(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=1e-3, high=0.2, log=True),
            )
        ),
    )


def smoke() -> Experiment:
    """Fresh parameters of a small network."""
    return changed(
        experiment(),
        {
            "task.statistics.size": (64, 96),
            "train.steps": 2,
            "train.batch_size": 4,
            "train.log_every": 1,
            "model.width": 8,
            "model.depth": 1,
            "model.parts.backbone.stem_width": 8,
            "model.parts.backbone.widths": (8,) * 7,
            "model.parts.backbone.blocks": (1,) * 7,
            "checkpoint.init_from": "",
        },
    )
