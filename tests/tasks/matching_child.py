"""Dual encoders trained on 8 devices, by each engine, in the run folder of the first argument: prints the losses."""

import json
import sys
from pathlib import Path

import jax

import suite
from suite.models import resnet
from suite.training.preprocessors import bind
from tests.training import rules

SETTINGS = {
    "sigmoid mesh": {"parallel.data": 8},
    "sigmoid fsdp": {"parallel.data": 4, "parallel.fsdp": 2},
    "sigmoid pmap": {"parallel.engine": "pmap"},
    "softmax pmap": {"parallel.engine": "pmap"},
}


def losses(folder, objective, fields=None):
    """Of each step of an epoch, whose last batch is short. The encoder of pictures is one that compiles quickly."""
    quick = resnet.small(stem_stride=1, stem_pool=False, stem_width=16, blocks=(1,), widths=(16,))
    changes = {"task.objective": objective, "model.parts.image": quick, **(fields or {})}
    experiment = suite.replace(suite.open(folder).experiment, changes)
    _, logged = rules.trained(bind(experiment, Path(folder)), 3)
    return [float(metrics["loss"]) for metrics in logged]


if __name__ == "__main__":
    assert jax.device_count() == 8
    found = {name: losses(sys.argv[1], name.split()[0], fields) for name, fields in SETTINGS.items()}
    print(json.dumps(found))
