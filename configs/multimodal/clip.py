"""Your own pictures and texts of them, from published CLIP weights: both encoders are fine-tuned.

Weights in Hugging Face's layout of CLIP, those of ViT-B/32 or what --checkpoint.init_from names. To train the
projections alone: --optim.frozen "^image/" "^text/". With few pairs, multimodal.match is quicker by far.

source:   your file; pictures are split 80/10/10 by a seeded hash of their names where it has no splits
data:     columns image (paths) and caption, or others named by --task.image and --task.text; several rows a picture
expected: depends on the data
time:     depends on the data
command:  suite train multimodal.clip --data captions.csv
"""

from suite.configs.text import sst2_minilm
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.tokenizers import Published
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import clip
from suite.tasks.multimodal.defaults import FrozenEncoders
from suite.tasks.multimodal.matching import ImageTextMatching


def experiment() -> Experiment:
    return Experiment(
        name="multimodal.clip",
        task=ImageTextMatching(
            data=Table(path=""), statistics=PixelStatistics(channels=3), tokenizer=Published(), max_length=77
        ),
        # The sizes are those of the weights, which replace them.
        model=clip.Config(height=224, width=224),
        optim=Optim(learning_rate=1e-5, warmup_fraction=0.1, weight_decay=0.1, layer_decay=0.8),
        precision=Precision(compute="bfloat16"),
        defaults=FrozenEncoders(),
        train=Train(epochs=5, batch_size=64, best="both_ways_10", patience=2),
        checkpoint=Checkpoint(init_from="openai/clip-vit-base-patch32"),
        search=Search(space=(Range(field="optim.learning_rate", low=1e-6, high=1e-4, log=True),)),
    )


def smoke() -> Experiment:
    """Fresh small encoders; the tokenizer is that of MiniLM."""
    sizes = {f"{side}_{name}": 2 for side in ("image", "text") for name in ("layers", "heads")}
    sizes |= {f"{side}_{name}": 32 for side in ("image", "text") for name in ("hidden", "feed_forward")}
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.log_every": 2,
            "train.batch_size": 16,
            "checkpoint.init_from": "",
            "task.statistics.size": (32, 32),
            "task.max_length": 32,
            "task.tokenizer.source": sst2_minilm.weights(),
            **{f"model.{name}": value for name, value in {**sizes, "height": 32, "width": 32, "patch": 16}.items()},
        },
    )
