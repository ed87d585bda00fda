"""Trains the small model of a family over 8 simulated devices, which share the work in five ways, or those named.

Prints one JSON object: layout -> {"losses": of each step, "rest": statistics at the end}.
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import suite
from suite.tree import paths
from tests.families import small

LAYOUTS = {
    "one": {"data": 1},
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "mixed": {"data": 2, "fsdp": 2, "tensor": 2},
    "pmap": {"data": 8, "engine": "pmap"},
}


def main(family: str, *layouts: str) -> None:
    assert jax.device_count() == 8
    found = {}
    for name in layouts or LAYOUTS:
        sizes = LAYOUTS[name]
        experiment = small(family, train__steps=20, train__log_every=1, train__eval_every=20,
                           **{f"parallel__{field}": value for field, value in sizes.items()})  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            run = suite.train(experiment, Path(folder) / "run")
            rest = {path: np.asarray(leaf).tolist() for path, leaf in paths(run._weights[1]).items()}
            losses = [value for value in run.history["train/loss"] if value is not None]
        found[name] = {"losses": losses, "rest": rest}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
