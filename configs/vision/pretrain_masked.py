"""Your own images without labels: a vision transformer learns from them what carries on in vision.classify.

Three quarters of the patches of an image are hidden and reconstructed from the others (MAE), so a step costs a quarter
of one on whole images; but it takes many more epochs than vision.pretrain until the vectors tell anything apart.

source:   your folder, split 80/10/10 by a seeded hash, or holding train/, validation/ and test/ itself
data:     images in any folders (or .npz and idx arrays, or a table with a column of files)
expected: depends on the data
time:     depends on the data; hundreds of epochs need an accelerator
command:  suite train vision.pretrain_masked --data photos/
"""

from suite.data.sources.unlabelled import Files
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import mae, vit
from suite.models.parts import Parts
from suite.tasks.vision.defaults import UnlabelledPictures
from suite.tasks.vision.pretraining import MaskedPretraining


def experiment() -> Experiment:
    return Experiment(
        name="vision.pretrain_masked",
        task=MaskedPretraining(data=Files(path=""), augmentation=("crop", "flip")),
        model=Parts(
            parts={"image": vit.tiny(patch=4, layers=6), "decoder": mae.Config(layers=2, hidden=128, heads=4)},
            feeds={"decoder": "image"},
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.05, beta2=0.95),
        precision=Precision(compute="bfloat16"),
        train=Train(epochs=0, batch_size=0, eval_batch_size=256, best=""),
        defaults=UnlabelledPictures(examples=2_000_000),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.batch_size": 16,
            "train.log_every": 2,
            "task.probed": 64,
            "model.parts.image.layers": 1,
            "model.parts.image.heads": 2,
            "model.parts.image.hidden": 32,
            "model.parts.decoder.layers": 1,
            "model.parts.decoder.heads": 2,
            "model.parts.decoder.hidden": 16,
        },
    )
