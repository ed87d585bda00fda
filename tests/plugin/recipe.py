"""Recipe of the plug-in: 256 captioned shapes, some seconds on a processor."""

from captioned_shapes.task import PictureCaptions
from captioned_shapes.towers import Towers

from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment, Optim, Train
from suite.models import dnn, transformer


def experiment() -> Experiment:
    """256 records, some seconds."""
    return Experiment(
        name="plugin.picture_captions",
        task=PictureCaptions(),
        model=Towers(
            parts={
                "image": dnn.Config(hidden=(64,), outputs=16, dropout=0.1),
                "text": transformer.Config(layers=1, width=32, heads=2, feed_forward=64, outputs=16, dropout=0.1),
            }
        ),
        optim=Optim(learning_rate=5e-3, warmup_steps=10),
        train=Train(steps=80, batch_size=32, eval_every=20, log_every=10, ema=0.9),
        goal=Goal(metric="accuracy", at_least=0.6),
    )
