"""Your own images without labels: a network learns from them what carries on in vision.classify.

Two random views of an image are to be near each other (SimCLR). Where images lie in folders of classes, probes tell
while it trains how well the vectors tell these. Then: suite train vision.classify --data labelled/ with
--checkpoint.init_from RUN.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     images in any folders (or .npz and idx arrays, or a table with a column of files)
expected: depends on the data
time:     depends on the data; 50,000 pictures of 32 x 32 pixels take some 150 seconds of one CPU core an epoch
command:  suite train vision.pretrain --data photos/
"""

from suite.data.sources.unlabelled import Files
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import dnn, resnet
from suite.models.parts import Parts
from suite.tasks.vision.defaults import UnlabelledPictures
from suite.tasks.vision.pretraining import ContrastivePretraining


def experiment() -> Experiment:
    return Experiment(
        name="vision.pretrain",
        task=ContrastivePretraining(data=Files(path="")),
        model=Parts(
            parts={
                "image": resnet.small(stem_stride=0, stem_pool=None, stem_width=0, blocks=(), widths=()),
                "projector": dnn.Config(hidden=(256,), outputs=128),
            },
            feeds={"projector": "image"},
        ),
        optim=Optim(learning_rate=2e-3, warmup_fraction=0.05, weight_decay=1e-2),
        train=Train(epochs=0, batch_size=0, eval_batch_size=256, best=""),
        defaults=UnlabelledPictures(),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.batch_size": 16,
            "train.log_every": 2,
            "task.probed": 64,
            "model.parts.image.stem_width": 16,
            "model.parts.image.widths": (16, 16, 16),
            "model.parts.projector.hidden": (16,),
            "model.parts.projector.outputs": 8,
        },
    )
