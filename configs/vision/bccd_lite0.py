"""Blood cells under a microscope, found and told apart: FCOS on EfficientNet-Lite0, from published weights.

source:   Shenggan/BCCD_Dataset; YOLOv7 from COCO's weights has AP50 90.6 and mAP 61 % on 73 pictures of another split
data:     $SUITE_DATA/bccd/bccd.tar.gz, 364 photos of 640 x 480 with 4,888 boxes: train 205, validation 87, test 72
expected: test AP50 86.2 % (goal 80 %) and mAP 53.8 % (seed 0): platelets 30.4, red cells 57.3, white cells 73.7 %.
          Validation after 130, 260, 390, 520 and 650 steps: mAP 44.9, 52.4, 54.5, 55.6, 55.7 %. int8: AP50 86.3, mAP
          54.0 %
time:     19 minutes on 2 CPU cores beside much else; 9.5 minutes of CPU time
command:  suite train vision.bccd_lite0
scratch:  the same with --checkpoint.init_from= --model.frozen_statistics False --optim.frozen --optim.rates: test AP50
          82.5, mAP 51.1 %, validation mAP 53.7 %; 10 minutes, 17 of CPU time
"""

import os

from suite.configs.vision.finetune import weights
from suite.data.augment import Colour
from suite.data.box_augment import FlipBoxes, ScaleCrop
from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.detection import BoxFolder
from suite.experiment.goal import Goal, Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import efficientnet, fcos
from suite.tasks.vision.detection import ObjectDetection


def experiment() -> Experiment:
    file = os.path.join(os.environ.get("SUITE_DATA", "data"), "bccd", "bccd.tar.gz")
    return Experiment(
        name="vision.bccd_lite0",
        task=ObjectDetection(
            data=BoxFolder(path=file),
            # Half the size of the photos: a platelet has 20 pixels, a red cell 50, a white one 90.
            statistics=PixelStatistics(size=(240, 320), channels=3, part="backbone"),
            # A blood cell has no upper side.
            augment=(
                FlipBoxes(horizontal=0.5, vertical=0.5),
                ScaleCrop(smallest=0.8, largest=1.25),
                Colour(brightness=0.2, contrast=0.2, saturation=0.2),
            ),
        ),
        model=fcos.Config(parts={"backbone": efficientnet.lite0()}, strides=(8, 16)),
        optim=Optim(
            learning_rate=2e-3,
            warmup_fraction=0.05,
            weight_decay=0.05,
            clip_norm=10.0,
            # The first layers, of which each place is dear, know edges and colours already.
            frozen=(r"^backbone/stem/", r"^backbone/stages/[01]/"),
            rates=((r"^backbone/", 0.1),),
        ),
        train=Train(epochs=25, batch_size=8, ema=0.995, eval_every=130, log_every=26, best="mAP"),
        checkpoint=Checkpoint(init_from={"backbone": weights()}),
        goal=Goal(metric="AP50", at_least=0.8, on="test"),
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
            "task.statistics.size": (96, 128),
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
