"""Pictures like your own, of what a text says.

A U-Net that is given the vector of the text by MiniLM, which stays as it is; its vectors are computed once and kept. A
transformer in the U-Net's place: copy this file with dit.Config(text=384).

source:   your file; pictures are split 80/10/10 by a seeded hash of their names where it has no splits
data:     columns image (paths) and caption, or others named by --task.image and --task.text; several rows a picture
expected: depends on the data; some thousand pictures are needed
time:     depends on the data; 400,000 pictures of 28 x 28 pixels take about an hour on 2 CPU cores
command:  suite train vision.generate_text --data captions.csv
"""

from suite.configs.text import sst2_minilm
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import unet
from suite.models.parts import Parts
from suite.tasks.vision.generation_defaults import DescribedPictures
from suite.tasks.vision.text_generation import TextToImage


def experiment() -> Experiment:
    return Experiment(
        name="vision.generate_text",
        task=TextToImage(data=Table(path="")),
        # The sizes of the encoder are those of the weights, which replace them.
        model=Parts(
            parts={
                "text": sst2_minilm.experiment().model,
                "network": unet.Config(text=384, patch=0, widths=(), blocks=1, attention=()),
            }
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.05, clip_norm=1.0, frozen=("^text/",)),
        # A long average makes better pictures than any single state, and the last one is the best.
        train=Train(epochs=0, batch_size=64, ema=0.999, eval_batch_size=256, best=""),
        checkpoint=Checkpoint(init_from={"text": sst2_minilm.weights()}),
        defaults=DescribedPictures(),
        search=Search(space=(Range(field="optim.learning_rate", low=3e-4, high=3e-3, log=True),)),
    )


def smoke() -> Experiment:
    """A fresh small encoder, which is trained; the tokenizer is still that of the weights."""
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "train.batch_size": 16,
            "optim.frozen": (),
            "checkpoint.init_from": "",
            "task.tokenizer.source": sst2_minilm.weights(),
            "task.steps": 2,
            "task.pictures": 64,
            "model.parts.network.widths": (16, 16),
            "model.parts.network.embedding": 16,
            "model.parts.network.text": 32,
            "model.parts.text.layers": 1,
            "model.parts.text.heads": 2,
            "model.parts.text.width": 32,
            "model.parts.text.feed_forward": 64,
        },
    )
