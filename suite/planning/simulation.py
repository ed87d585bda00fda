"""A step's cost on devices that are not here, compiled in a process of its own: by their compiler where it is
installed (`suite.planning.compilers`), else for as many simulated ones.

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
from suite.parallel import target
from suite.planning import compilers
from suite.planning.compilers import Described
from suite.planning.hardware import hardware
from suite.runtime import json_files

MOST = 1024
"""Devices simulated at the most."""

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Of a batch's arrays (steps, b, ...), by name: shape and format."""

Wanted = tuple[Experiment, Shapes, int, bool]
"""The arguments of `step_cost`."""


def cost_on(name: str, count: int, wanted: Wanted, compiler: compilers.Chosen = "auto") -> dict[str, Any]:
    """``step_cost`` on ``count`` devices ``name``: of this process where it has them, else by their own compiler where
    it is installed, else simulated; ``note`` then says why.

    Raises:
        InputError: the experiment's mesh or batch doesn't suit so many, or ``"real"`` and their compiler is missing.
        RunError: ``"real"``, and the compiler gave up; or a process failed.
    """
    import jax

    here = "cpu" if jax.default_backend() == "cpu" else hardware()[0].name
    if (name, count) == (here, jax.device_count()):
        return step_cost(*wanted)
    note = ""
    if compiler != "simulated" and name != "cpu":
        found = compilers.compiler_of(name, count, wanted[0].parallel.dcn_data)
        if isinstance(found, Described):
            try:
                return compiled_cost(wanted, found)
            except RunError as error:
                if compiler == "real":
                    raise
                said = " ".join(str(error).splitlines()[:2])
                note = f"its own compiler gave up, so it was simulated: {said}"
        elif compiler == "real":
            raise compilers.refuse(found)
        else:
            note = f"{found.why}, so it was simulated" + (f"; to have one: {found.fix}" if found.fix else "")
    cost = step_cost(*wanted) if count == jax.device_count() else simulated_cost(*wanted[:3], count, wanted[3])
    return {**cost, "note": note}


def step_cost(experiment: Experiment, shapes: Shapes, total_steps: int, answers: bool = False) -> dict[str, Any]:
    """What a step of a bound experiment costs on the devices of this process, or with ``answers`` the answers by which
    a batch is scored; see ``planning.plan_step``.

    Besides: ``mesh``; ``parameters``, how many; ``platform``, which it was compiled for; and in ``memory`` the parts of
    what lies there between two steps (``planning.KEPT``).
    """
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from suite.evaluation.reference import reference_shapes
    from suite.parallel import sharding
    from suite.planning import planning
    from suite.training.assemble import assemble

    program = assemble(experiment, total_steps)
    where = sharding.batch_sharding(program.mesh, leading=1)
    placed = where if program.mesh.size > 1 or target.is_described() else None
    batch = {name: jax.ShapeDtypeStruct(shape, kind, sharding=placed) for name, (shape, kind) in shapes.items()}
    state = program.abstract
    if answers:
        where = sharding.batch_sharding(program.mesh)
        batch = {
            name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=where if placed else None)
            for name, leaf in batch.items()
        }
        task, everywhere = experiment.task, NamedSharding(program.mesh, PartitionSpec()) if placed else None
        split, buckets = task.reference("validation"), experiment.pipeline.buckets
        reference = reference_shapes(program.embed, state.params, state.model_state, task, split, buckets)
        reference = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), reference
        )
        cost = planning.plan_step(program.evaluate, (state.params, state.model_state, batch, reference))
    else:
        cost = planning.plan_step(program.step, (state, batch))
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


def simulated_cost(
    experiment: Experiment, shapes: Shapes, total_steps: int, devices: int, answers: bool = False
) -> dict[str, Any]:
    """``step_cost`` on ``devices`` devices that need not be here.

    Raises:
        InputError: more than can be simulated; or the experiment's mesh or batch doesn't suit so many.
        RunError: the other process failed.
    """
    if devices > MOST:
        raise InputError(
            "flag --devices",
            f"{devices} devices are more than can be simulated.",
            found=f"{MOST} at the most",
            fix="a plan for fewer, with as many examples each",
        )
    return _elsewhere(
        (experiment, dict(shapes), total_steps, answers), None, _environment(devices), f"{devices} simulated devices"
    )


def compiled_cost(wanted: Wanted, described: Described) -> dict[str, Any]:
    """``step_cost`` by the compiler of ``described`` devices; ``compiler`` names it and its version.

    Raises:
        InputError: the experiment's mesh or batch doesn't suit so many.
        RunError: the compiler gave up; of a program that the device's memory can't hold it says so.
    """
    environment = {**compilers.environment(described, dict(os.environ)), **_path()}
    cost = _elsewhere(wanted, described, environment, described.topology)
    plain = described.platform == "cuda" and not compilers.has_cudnn()
    note = "cuDNN isn't installed, so attention was compiled as plain products" if plain else ""
    return {**cost, "compiler": compilers.version(described.platform), "note": note}


def _elsewhere(
    wanted: Wanted, described: Described | None, environment: Mapping[str, str], what: str
) -> dict[str, Any]:
    """``step_cost`` of the arguments ``wanted`` in a process of its own."""
    import cloudpickle  # a recipe's own classes may be known to this process alone

    with tempfile.TemporaryDirectory(prefix="suite-plan-") as folder:
        question, answer = Path(folder) / "wanted", Path(folder) / "made.json"
        question.write_bytes(cloudpickle.dumps((wanted, described)))
        program = "from suite.planning.simulation import answer; answer()"
        command = [sys.executable, "-c", program, str(question), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not answer.exists():
            said = "\n".join(done.stderr.strip().splitlines()[-8:])
            raise RunError(f"compiling for {what} failed (exit code {done.returncode}):\n{said}")
        cost: dict[str, Any] = json_files.read_object(answer)
    if "refused" in cost:
        raise InputError(**cost["refused"])
    if "failed" in cost:
        raise RunError(cost["failed"])
    return cost


def answer() -> None:
    """The other process: reads the file named first, writes the one named second."""
    import cloudpickle
    import jax

    question, answer = map(Path, sys.argv[1:3])
    wanted, described = cloudpickle.loads(question.read_bytes())
    try:
        with target.compiling_for(
            compilers.devices(described) if described else (), not described or compilers.has_cudnn()
        ):
            cost = step_cost(*wanted)
    except InputError as error:
        cost = {"refused": {"where": error.where, "problem": error.problem, "found": error.found, "fix": error.fix}}
    except jax.errors.JaxRuntimeError as error:
        cost = {"failed": str(error).strip()}
    answer.write_text(json.dumps(cost), encoding="utf-8")


def _path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _environment(devices: int) -> dict[str, str]:
    """This process's, but for what decides which devices JAX has, and how much thought goes into machine code.

    Nobody runs that code. Memory and communication are settled before, so they don't depend on its quality.
    """
    own = {"xla_force_host_platform_device_count": devices, "xla_backend_optimization_level": 0}
    flags = re.sub(rf"--({'|'.join(own)})=\S+", "", os.environ.get("XLA_FLAGS", ""))
    flags = " ".join([flags, *(f"--{name}={value}" for name, value in own.items())]).strip()
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    return {**environment, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **_path()}


def _shard_bytes(tree: Any) -> int:
    """Bytes of a tree of placed shapes on one device."""
    import jax

    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
