"""Your own pictures and texts of them, in one space: a text ranks pictures, and labels in any words are told apart.

From published weights: EfficientNet-Lite0 and MiniLM, both as they are, with heads that are trained. Their vectors are
computed once and kept. To train an encoder, too: --optim.frozen "^image/" leaves the one of pictures alone, and
--optim.frozen "^image/" "^text/encoder/(tokens|layers/[0-3])" all but the last two layers of MiniLM.

source:   your file; pictures are split 80/10/10 by a seeded hash of their names where it has no splits
data:     columns image (paths) and caption, or others named by --task.image and --task.text; several rows a picture
expected: depends on the data
time:     depends on the data
command:  suite train multimodal.match --data captions.csv
"""

from suite.configs.text import sst2_minilm
from suite.configs.vision import finetune
from suite.data.preprocessing.image import PixelStatistics
from suite.data.sources.datasets import Table
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Checkpoint, Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import efficientnet, pairing
from suite.models.parts import Parts
from suite.tasks.multimodal.defaults import FrozenEncoders
from suite.tasks.multimodal.matching import ImageTextMatching


def experiment() -> Experiment:
    return Experiment(
        name="multimodal.match",
        task=ImageTextMatching(data=Table(path=""), statistics=PixelStatistics(part="image", channels=3)),
        # The sizes of the encoders are those of the weights, which replace them.
        model=Parts(
            parts={
                "image": efficientnet.lite0(),
                "text": sst2_minilm.experiment().model,
                "heads": pairing.Config(dropout=0.3),
            }
        ),
        optim=Optim(learning_rate=1e-3, warmup_fraction=0.1, weight_decay=0.1, frozen=("^image/", "^text/")),
        defaults=FrozenEncoders(),
        train=Train(epochs=60, batch_size=256, best="both_ways_10", patience=10),
        checkpoint=Checkpoint(init_from={"image": finetune.weights(), "text": sst2_minilm.weights()}),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=3e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=0.01, high=1.0, log=True),
                Range(field="model.parts.heads.dropout", low=0.0, high=0.6),
            )
        ),
    )


def smoke() -> Experiment:
    return shrunk(experiment())


def shrunk(recipe: Experiment) -> Experiment:
    """Fresh small encoders, both trained; the tokenizer is still that of the weights."""
    encoders = {"image.stem_width": 8, "image.widths": (8,) * 7, "image.blocks": (1,) * 7, "image.head_width": 16}
    encoders |= {"text.layers": 1, "text.heads": 2, "text.width": 32, "text.feed_forward": 64}
    encoders |= {"heads.image": 16, "heads.text": 32, "heads.width": 16}
    return changed(
        recipe,
        {
            "train.steps": 4,
            "train.log_every": 2,
            "train.batch_size": 16,
            "optim.frozen": (),
            "checkpoint.init_from": "",
            "task.statistics.size": (32, 32),
            "task.tokenizer.source": sst2_minilm.weights(),
            **{f"model.parts.{name}": value for name, value in encoders.items()},
        },
    )
