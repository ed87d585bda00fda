"""A step's cost on devices that are not here: compiled for as many simulated ones, in a process of their own.

XLA's CPU platform takes any number of devices, and partitions a program for them as for others: the same mesh, the same
shards, the same communication. Nothing is allocated and nothing runs. How many devices a process has is settled when
JAX starts, hence the process.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.errors import InputError, RunError
from suite.experiment.sections import Experiment
from suite.runtime import json_files

MOST = 1024
"""Devices simulated at the most."""

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Of a batch's arrays (steps, b, ...), by name: shape and format."""


def step_cost(experiment: Experiment, shapes: Shapes, total_steps: int) -> dict[str, Any]:
    """What a step of a bound experiment costs on the devices of this process; see ``planning.plan_step``.

    Besides: ``mesh``; ``parameters``, how many; ``platform``, which it was compiled for; and in ``memory`` the parts of
    what lies there between two steps (``planning.KEPT``).
    """
    import jax

    from suite.parallel import sharding, target
    from suite.planning import planning
    from suite.training.assemble import assemble

    program = assemble(experiment, total_steps)
    where = sharding.batch_sharding(program.mesh, leading=1)
    placed = where if program.mesh.size > 1 or target.is_described() else None
    batch = {name: jax.ShapeDtypeStruct(shape, kind, sharding=placed) for name, (shape, kind) in shapes.items()}
    cost = planning.plan_step(program.step, (program.abstract, batch))
    state = program.abstract
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), batch)
    shards = {
        "parameters": state.params,
        "optimizer": state.opt,
        "other": (state.model_state, state.ema),
        "batch": rows,
    }
    cost["memory"] |= {name: _shard_bytes(tree) for name, tree in shards.items()}
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    platform = target.platform_of(program.mesh.devices.flat[0])
    return {**cost, "mesh": dict(program.mesh.shape), "parameters": count, "platform": platform}


def simulated_cost(experiment: Experiment, shapes: Shapes, total_steps: int, devices: int) -> dict[str, Any]:
    """``step_cost`` on ``devices`` devices that need not be here.

    Raises:
        InputError: more than can be simulated; or the experiment's mesh or batch doesn't suit so many.
        RunError: the other process failed.
    """
    import cloudpickle  # a recipe's own classes may be known to this process alone

    if devices > MOST:
        raise InputError(
            "flag --devices",
            f"{devices} devices are more than can be simulated.",
            found=f"{MOST} at the most",
            fix="a plan for fewer, with as many examples each",
        )
    with tempfile.TemporaryDirectory(prefix="suite-plan-") as folder:
        wanted, answer = Path(folder) / "wanted", Path(folder) / "made.json"
        wanted.write_bytes(cloudpickle.dumps((experiment, dict(shapes), total_steps)))
        command = [
            sys.executable,
            "-c",
            "from suite.planning.simulation import answer; answer()",
            str(wanted),
            str(answer),
        ]
        done = subprocess.run(command, env=_environment(devices), capture_output=True, text=True, check=False)
        if not answer.exists():
            said = "\n".join(done.stderr.strip().splitlines()[-8:])
            raise RunError(f"compiling for {devices} simulated devices failed (exit code {done.returncode}):\n{said}")
        cost: dict[str, Any] = json_files.read_object(answer)
    if "refused" in cost:
        raise InputError(**cost["refused"])
    return cost


def answer() -> None:
    """The other process: reads the file named first, writes the one named second."""
    import cloudpickle

    wanted, answer = map(Path, sys.argv[1:3])
    try:
        cost = step_cost(*cloudpickle.loads(wanted.read_bytes()))
    except InputError as error:
        cost = {"refused": {"where": error.where, "problem": error.problem, "found": error.found, "fix": error.fix}}
    answer.write_text(json.dumps(cost), encoding="utf-8")


def _environment(devices: int) -> dict[str, str]:
    """This process's, but for what decides which devices JAX has, and how much thought goes into machine code.

    Nobody runs that code. Memory and communication are settled before, so they don't depend on its quality.
    """
    own = {"xla_force_host_platform_device_count": devices, "xla_backend_optimization_level": 0}
    flags = re.sub(rf"--({'|'.join(own)})=\S+", "", os.environ.get("XLA_FLAGS", ""))
    flags = " ".join([flags, *(f"--{name}={value}" for name, value in own.items())]).strip()
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    return {
        **environment,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "XLA_FLAGS": flags,
    }


def _shard_bytes(tree: Any) -> int:
    """Bytes of a tree of placed shapes on one device."""
    import jax

    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
