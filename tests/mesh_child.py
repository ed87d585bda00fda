"""Trains small models of the families named on the command line over 8 simulated devices, each laid out in five ways.

Prints one JSON object: family -> layout -> {"losses": of each step, "rest": statistics at the end}.
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import suite
from suite.models import resnet
from suite.tree import paths

LAYOUTS = {
    "one": {"data": 1},
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "mixed": {"data": 2, "fsdp": 2, "tensor": 2},
    "pmap": {"data": 8, "engine": "pmap"},
}
BODY = {"layers": 2, "width": 32, "heads": 4, "feed_forward": 64, "dropout": 0.1}
FAMILIES = {
    "dnn": ("vision.digits_dnn", {"model.hidden": (32, 16)}),
    "transformer": ("text.synthetic_sentiment", {"task.data.examples": 400, "pipeline.buckets": (32,),
                                                 **{f"model.{name}": value for name, value in BODY.items()}}),
    "resnet": ("vision.digits_dnn", {"model": resnet.small(blocks=(1, 1), widths=(8, 16), stem_width=8, dropout=0.1)}),
    "audio": ("speech.fsdd_keyword", {"model.layers": 1, "model.width": 32, "model.heads": 4, "model.dropout": 0.1,
                                      "precision.compute": "float32", "pipeline.buckets": (6144, 20480)}),
    "deepfm": ("recommendation.criteo_deepfm", {"model.hidden": (32, 16), "model.width": 8, "model.dropout": 0.1}),
}  # fmt: skip
SHORT = {"train.steps": 20, "train.batch_size": 16, "train.log_every": 1, "train.eval_every": 20, "train.ema": 0.0,
         "train.steps_per_dispatch": 1, "train.eval_batch_size": 400, "optim.warmup_steps": 2}  # fmt: skip


def main(*families: str) -> None:
    assert jax.device_count() == 8
    found: dict[str, dict] = {}
    for family in families:
        recipe, changes = FAMILIES[family]
        experiment = suite.replace(suite.load(recipe), {**SHORT, **changes})
        for name, sizes in LAYOUTS.items():
            laid_out = suite.replace(experiment, {f"parallel.{field}": value for field, value in sizes.items()})
            with tempfile.TemporaryDirectory() as folder:
                run = suite.train(laid_out, Path(folder) / "run")
                rest = {name: np.asarray(leaf).tolist() for name, leaf in paths(run._weights[1]).items()}
                losses = [value for value in run.history["train/loss"] if value is not None]
                found.setdefault(family, {})[name] = {"losses": losses, "rest": rest}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
