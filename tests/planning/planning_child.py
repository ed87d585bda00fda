"""On eight simulated devices: what plans say and what a run holds. Prints JSON; test_planning.py compares.

Arguments: a folder to write to, a recipe's path.
"""

import json
import sys
from pathlib import Path

import jax

from suite.data.pipeline.dispatches import Encoder, make_plan
from suite.experiment import recipes, sections
from suite.parallel import sharding
from suite.runs import verbs
from suite.training.assemble import assemble
from suite.training.preprocessors import prepare

folder, recipe = Path(sys.argv[1]), recipes.load(sys.argv[2])
by_fsdp = {}
for n in (1, 2, 4, 8):
    changed = sections.replace(recipe, {"parallel.data": 1, "parallel.fsdp": n})
    by_fsdp[n] = verbs.plan(changed, "tpu-v5e-8")["memory"]

# A run's own state and step, on the mesh that the recipe asks for.
source = recipe.task.source("train")
bound = prepare(recipe, folder, source)
order = make_plan(bound.task, source, bound.train.batch_size, seed=None)
program = assemble(bound, 100)
batch = Encoder(bound.task, source, order, augment=True)((0, 1))["batch"]
batch = jax.device_put(batch, sharding.batch_sharding(program.mesh, leading=1))
state = program.init()
stats = program.step.lower(state, batch).compile().memory_analysis()
first = jax.devices()[0]


def held(tree):
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == first)


before = {"parameters": held(state.params), "optimizer": held(state.opt), "batch": held(batch)}
state, _ = program.step(state, batch)
after = {"parameters": held(state.params), "optimizer": held(state.opt), "batch": held(batch)}
peak = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes - stats.alias_size_in_bytes
print(
    json.dumps(
        {
            "by_fsdp": by_fsdp,
            "before": before,
            "after": after,
            "peak": peak,
            "arguments": stats.argument_size_in_bytes,
            "mesh": dict(program.mesh.shape),
        }
    )
)
