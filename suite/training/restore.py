"""Start of a training: the newest checkpoint, weights of another run, published weights, or fresh parameters."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from suite.errors import InputError
from suite.experiment.sections import Experiment
from suite.runtime.files import is_run
from suite.surgery import lora
from suite.training.assemble import Program
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.state import State, from_stored, to_stored
from suite.tree import paths
from suite.weights import pretrained


def restore(program: Program, checkpoints: Checkpoints, experiment: Experiment) -> tuple[State, Progress]:
    """The state to begin with. Precedence, first that applies:

    1. the newest complete checkpoint of this run folder (a resumed run);
    2. fresh state, with the parameters of ``init_from``: the best checkpoint of a run, or published weights; what
       fine-tuning adds to them is fresh, or that of ``finetune.delta``;
    3. fresh state.
    """
    newest = checkpoints.newest(to_stored(program.abstract))
    if newest is not None:
        return from_stored(newest[0]), newest[1]
    state = program.init()
    init_from, finetune = experiment.checkpoint.init_from, experiment.finetune
    if init_from:
        if is_run(init_from):
            params, model_state = read_weights(program, Path(init_from), state.params)
        else:
            params, model_state = pretrained.fill(
                experiment.model, state.params, state.model_state, init_from, offline=experiment.checkpoint.offline
            )
        if finetune.delta:
            params, model_state = lora.read_delta(params, model_state, finetune, finetune.delta)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        state = dataclasses.replace(state, params=params, model_state=model_state, ema=ema)
    return state, Progress()


def read_weights(program: Program, folder: Path, fresh: Any = None) -> tuple[Any, Any]:
    """(params, model_state) to evaluate and serve from the run in ``folder``.

    They are those of its best checkpoint, averaged if it has EMA.

    ``fresh``: parameters that give the additions of fine-tuning, where the run in ``folder`` has none.

    Raises:
        InputError: there is no checkpoint, or it is of another model.
    """
    with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
        step = checkpoints.served
        if step is None:
            raise InputError(f"run {folder}", "has no complete checkpoint.", fix=f"suite train --resume {folder}")
        params = program.abstract.params
        plain = lora.base(params)
        if fresh is None or checkpoints.parameters(step).keys() != paths(plain).keys():
            return checkpoints.weights(step, params, program.abstract.model_state)
        found, model_state = checkpoints.weights(step, plain, program.abstract.model_state)
    return lora.with_additions(found, fresh), model_state


def begun(folder: Path) -> bool:
    """Whether the run in ``folder`` has written a checkpoint, whole or not."""
    return any(folder.glob("checkpoints/[0-9]*"))
