"""Solution: the parameters of a task that is solved in closed form, computed in one call instead of steps.

The run has one step, the solution, which is evaluated, logged and saved as any other.
"""

import dataclasses
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.data.pipeline.dispatches import Encoder, Plan, dispatches, make_plan
from suite.errors import InputError, Interrupted
from suite.experiment.sections import Experiment
from suite.training.loop import Loop
from suite.tree import map_paths, paths

SOLUTION = 1
"""Steps of a run that is solved."""


def check_solved(experiment: Experiment) -> None:
    """Refuses, of a task that is solved, what only steps can do.

    Raises:
        InputError: names the field.
    """
    if not experiment.task.solved:
        return
    finetune, sparsity = experiment.finetune.kind, experiment.optim.sparsity.share
    for name, value, off in (
        ("finetune.kind", finetune, "full"),
        ("optim.sparsity.share", sparsity, 0.0),
        ("train.ema", experiment.train.ema, 0.0),
    ):
        if value != off:
            problem = f"is {value}, and {type(experiment.task).__name__} is solved in closed form, without steps."
            plain = off if isinstance(off, str) else f"{off:g}"
            raise InputError(f"field {name}", problem, fix=f"--{name} {shlex.quote(plain)}")


def solve(loop: Loop, source: Source, plan: Plan) -> None:
    """Solve, evaluate and save; where the task names the validation split, the solution with its records is saved.

    Args:
        loop: at its start.
        source: the training split.
        plan: its batches.

    Raises:
        Interrupted: the run was asked to stop; it begins anew when it goes on.
    """
    unused = _unused(loop.experiment)
    if unused:
        loop.log.say(f"solved in closed form: {', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect")
    _solve(loop, source, "train", dataclasses.replace(plan, seed=None, strata=None))
    loop.progress = dataclasses.replace(loop.progress, next_batch=SOLUTION)
    loop.check()

    def again() -> None:
        task, train = loop.experiment.task, loop.experiment.train
        if len(task.solved) > 1:
            every = task.solved_records()
            _solve(loop, every, " and ".join(task.solved), make_plan(task, every, train.batch_size, seed=None))
            loop.check()

    loop.look(again)


def _solve(loop: Loop, source: Source, splits: str, plan: Plan) -> None:
    task, state, pipe = loop.experiment.task, loop.state, loop.experiment.pipeline
    encoder, begun = Encoder(task, source, plan, augment=False), time.perf_counter()

    def batches() -> Iterator[Batch]:
        for item in dispatches(encoder, 0, plan.batches_per_epoch, workers=pipe.workers, prefetch=pipe.prefetch):
            if loop.interruption.noted:
                raise Interrupted(loop.folder, loop.progress.next_batch, loop.checkpoints.latest)
            yield {name: value[0] for name, value in item.batch.items()}

    solution = task.solve(nnx.merge(loop.program.graph, state.params, state.model_state), batches)
    params, model_state = _with(state.params, solution), _with(state.model_state, solution)
    if unknown := solution.keys() - paths(params).keys() - paths(model_state).keys():
        raise ValueError(f"{type(task).__name__}.solve sets {', '.join(sorted(unknown))}, which the model has not")
    loop.state = dataclasses.replace(state, params=params, model_state=model_state, step=jnp.ones_like(state.step))
    loop.examples += len(source)
    loop.log.say(f"solved from {splits}, {len(source):,} records, in {time.perf_counter() - begun:.1f} s")


def _with(variables: Any, solution: Mapping[str, Any]) -> Any:
    """The variables with those of the solution, each where it was and as it was shared by devices."""

    def own(path: str, leaf: jax.Array) -> jax.Array:
        if path not in solution:
            return leaf
        array = np.asarray(solution[path], leaf.dtype)
        if array.shape != leaf.shape:
            raise ValueError(f"the solution of {path} has shape {array.shape}, and the model's is {leaf.shape}")
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index])

    return map_paths(own, variables)


def _unused(experiment: Experiment) -> list[str]:
    """Fields of steps that are not as usual."""
    names = []
    for section, fields in (("optim", None), ("train", ("steps", "epochs", "patience", "eval_every", "on_nan"))):
        held = getattr(experiment, section)
        usual = type(held)()
        known = [field.name for field in dataclasses.fields(held)] if fields is None else fields
        names += [f"{section}.{name}" for name in known if getattr(held, name) != getattr(usual, name)]
    return names
