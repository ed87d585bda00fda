"""One small recipe of each family that trains: DNN, transformer, ResNet, audio encoder, DeepFM. Dropout is on."""

import os

import pytest

import suite
from suite.experiment.sections import Experiment
from suite.models import resnet

_BODY = {"model.layers": 2, "model.width": 32, "model.heads": 4, "model.feed_forward": 64, "model.dropout": 0.1}
_RECIPES = {
    "dnn": ("vision.digits_dnn", {"model.hidden": (32, 16)}),
    "transformer": ("text.synthetic_sentiment", {**_BODY, "task.data.examples": 400, "pipeline.buckets": (32,)}),
    # SGD, as residual networks are trained. Adam makes of a gradient that is but rounding a step like any other.
    "resnet": (
        "vision.digits_dnn",
        {
            "model": resnet.small(blocks=(1, 1), widths=(8, 16), stem_width=8, dropout=0.1),
            "optim.name": "sgd",
            "optim.learning_rate": 0.05,
        },
    ),
    "audio": (
        "speech.fsdd_keyword",
        {
            "model.layers": 1,
            "model.width": 16,
            "model.heads": 2,
            "model.dropout": 0.1,
            "precision.compute": "float32",
            "pipeline.buckets": (20480,),
        },
    ),
    "deepfm": (
        "recommendation.criteo_deepfm",
        {"model.hidden": (32, 16), "model.width": 8, "model.dropout": 0.1, "task.bootstrap": 10},
    ),
}
FAMILIES = tuple(_RECIPES)


def small(family: str, **changes: object) -> Experiment:
    """The recipe, with batches of 16 and a step a dispatch. ``changes``: fields, a double underscore for the point."""
    recipe, sizes = _RECIPES[family]
    common = {
        "train.batch_size": 16,
        "train.eval_batch_size": 400,
        "train.ema": 0.0,
        "train.steps_per_dispatch": 1,
        "optim.warmup_steps": 2,
    }
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return suite.replace(suite.load(recipe), {**common, **sizes, **named})


def need_data(family: str) -> None:
    """Skips the test where the family's real data are missing."""
    if family in ("audio", "deepfm") and "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder: the recordings and clicks are missing")
