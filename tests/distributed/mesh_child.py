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
from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan, to_device
from suite.parallel.batch_shards import placer
from suite.training.assemble import assemble
from suite.training.preprocessors import prepare
from suite.tree import paths
from tests import families, pairs

STEPS = 20
ONE_SHAPE = {"pipeline.buckets": {"": (16,), "answer": (40,)}}
"""What a mesh does to a batch does not depend on its lengths, and each pair of them is another program to compile."""
LAYOUTS = {
    "one": {"data": 1},
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "mixed": {"data": 2, "fsdp": 2, "tensor": 2},
    "pmap": {"data": 8, "engine": "pmap"},
}


def main(family: str, *layouts: str) -> None:
    assert jax.device_count() == 8
    recipe = suite.replace(pairs.experiment(), ONE_SHAPE) if family == "parts" else families.small(family)
    source = recipe.task.source("train")
    with tempfile.TemporaryDirectory() as folder:
        experiment = prepare(recipe, Path(folder), source)
        plan = make_plan(
            experiment.task, source, experiment.train.batch_size, seed=0, buckets=experiment.pipeline.buckets
        )
        items = list(dispatches(Encoder(experiment.task, source, plan, augment=True), 0, STEPS))
        begun = initial(experiment)
        print(json.dumps({name: trained(experiment, items, begun, LAYOUTS[name]) for name in layouts or LAYOUTS}))


def trained(experiment, items, begun, layout):
    """Losses of the steps, and the statistics that they leave."""
    program = assemble(suite.replace(experiment, {f"parallel.{field}": size for field, size in layout.items()}), STEPS)
    state, losses = jax.device_put(begun, jax.tree.map(lambda leaf: leaf.sharding, program.abstract)), []
    for _, batch in to_device(iter(items), placer(program.mesh, leading=1)):
        state, tallies = program.step(state, batch)
        losses.append(float(tallies["loss"].total / tallies["loss"].count))
    return {
        "losses": losses,
        "rest": {path: np.asarray(leaf).tolist() for path, leaf in paths(state.model_state).items()},
    }


def initial(experiment):
    """The state to begin with, on the host: for all layouts, which spares compiling it for each."""
    return jax.device_get(assemble(suite.replace(experiment, {"parallel.data": 1}), STEPS).init())


if __name__ == "__main__":
    main(*sys.argv[1:])
