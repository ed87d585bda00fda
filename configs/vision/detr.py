"""Your own pictures with boxes, from published weights of DETR, which finds things by queries, without suppression.

The weights have seen COCO's 118,000 pictures; classes of the same names keep their head, else it is new. The backbone's
norms and first layers stay as they are, and the rest of it learns a tenth as fast. On fewer than some hundred pictures,
or without an accelerator, vision.detect learns faster.

source:   your folder, split 80/10/10 by a seeded hash, or with splits of its own
data:     COCO JSON, Pascal VOC XML, YOLO text files or a table (see docs/tasks)
expected: depends on the data
time:     depends on the data
command:  suite train vision.detr --data photos/ --checkpoint.init_from facebook/detr-resnet-50
"""

from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.detection import BoxFolder
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import detr, resnet
from suite.tasks.vision.detection import ObjectDetection
from suite.tasks.vision.detection_defaults import ByBoxes


def experiment() -> Experiment:
    return Experiment(
        name="vision.detr",
        task=ObjectDetection(data=BoxFolder(path=""), statistics=PixelStatistics(channels=3, part="backbone")),
        # Sizes are those of the weights, which replace them.
        model=detr.Config(),
        optim=Optim(
            learning_rate=1e-4,
            warmup_fraction=0.05,
            weight_decay=1e-4,
            clip_norm=0.1,
            frozen=(r"^backbone/.*norm/", r"^backbone/stem/", r"^backbone/stages/0/"),
            rates=((r"^backbone/", 0.1),),
        ),
        train=Train(epochs=0, batch_size=4, best="mAP", patience=10),
        checkpoint=Checkpoint(init_from="facebook/detr-resnet-50"),
        defaults=ByBoxes(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=2e-5, high=3e-4, log=True),
                Choice(field="optim.clip_norm", among=(0.1, 1.0)),
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
            "train.log_every": 1,
            "model.layers": 1,
            "model.decoder_layers": 2,
            "model.width": 16,
            "model.heads": 2,
            "model.feed_forward": 16,
            "model.queries": 24,
            "model.parts": {"backbone": resnet.Config(blocks=(1, 1), widths=(8, 16), stem_width=8)},
            "checkpoint.init_from": "",
        },
    )
