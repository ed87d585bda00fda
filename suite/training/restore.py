"""Start of a training: the newest checkpoint, weights of another run, published weights, or fresh parameters."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from suite.errors import InputError
from suite.experiment.sections import Experiment
from suite.surgery import lora
from suite.training.assemble import Program
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.initial_weights import best_weights, initial_weights
from suite.training.state import State, from_stored, to_stored


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
    finetune = experiment.finetune
    if finetune.delta and not experiment.checkpoint.init_from:
        raise InputError(
            "field finetune.delta",
            "needs the weights that it was trained on.",
            found="no checkpoint.init_from",
            fix="--checkpoint.init_from SOURCE",
        )
    if experiment.checkpoint.init_from:
        abstract = program.abstract
        params, model_state = initial_weights(
            experiment, (abstract.params, abstract.model_state), (state.params, state.model_state)
        )
        if finetune.delta:
            params, model_state = lora.read_delta(
                params, model_state, finetune, finetune.delta, experiment.checkpoint.init_from
            )
        # One program: by themselves, copies of arrays of fifty shapes are fifty programs.
        ema = None if state.ema is None else jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))(params)
        state = dataclasses.replace(state, params=params, model_state=model_state, ema=ema)
    return state, Progress()


def read_weights(program: Program, folder: Path) -> tuple[Any, Any]:
    """(params, model_state) to evaluate and serve from the run in ``folder``.

    They are those of its best checkpoint, averaged if it has EMA.

    Raises:
        InputError: there is no checkpoint, or it is of another model.
    """
    return best_weights(folder, program.abstract.params, program.abstract.model_state)


def begun(folder: Path) -> bool:
    """Whether the run in ``folder`` has written a checkpoint, whole or not."""
    return any(folder.glob("checkpoints/[0-9]*"))
