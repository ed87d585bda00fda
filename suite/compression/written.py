"""A run folder made of weights instead of by training: what every later verb opens, and training may go on from."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from suite import config
from suite.assets import bind, unbind
from suite.checkpoint import Checkpoints, Progress
from suite.compression.quantized import is_rounded
from suite.config import Experiment
from suite.errors import RunError
from suite.run import versions
from suite.trainer import assemble


def write(experiment: Experiment, params: Any, rest: Any, folder: Path, assets: Path) -> None:
    """A run folder whose one checkpoint, of step 0, holds these weights.

    `suite.trainer.fit` goes on from it with a fresh optimiser, unless weights are rounded: those are not trained.
    ``experiment.json`` comes last, so a folder that has it is whole.

    Args:
        experiment: what the weights are of; bound or not.
        params: nested dict of arrays.
        rest: the model's other variables.
        folder: made if missing.
        assets: the folder of fitted assets to copy.

    Raises:
        InputError: the disk has no room.
        RunError: the checkpoint could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(assets, folder / "assets", dirs_exist_ok=True)
    config.write_text(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    experiment = unbind(experiment)
    state = _state(bind(experiment, folder), params, rest)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.check_start(state)
        checkpoints.save(0, state, Progress())
    if checkpoints.served is None:
        raise RunError(f"the weights could not be written to {folder}: see the line above, then begin again")
    config.dump(experiment, folder / "experiment.json")


def _state(experiment: Experiment, params: Any, rest: Any) -> dict[str, Any]:
    """The fields of `suite.trainer.State`."""
    if is_rounded(experiment.compression):
        return {"step": jnp.int32(0), "params": params, "rest": rest, "opt": {}, "ema": None}
    train, optim = experiment.train, experiment.optim
    state = assemble(experiment, max(train.steps, optim.warmup_steps + 1)).init()
    ema = jax.tree.map(jnp.copy, params) if train.ema else None
    return dict(vars(dataclasses.replace(state, params=params, rest=rest, ema=ema)))
