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
from suite.compression.quantized import is_rounded
from suite.config import Experiment
from suite.errors import InputError, RunError
from suite.run import versions
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.trainer import assemble


def write(experiment: Experiment, params: Any, rest: Any, folder: Path, assets: Path) -> None:
    """A run folder whose one checkpoint, of step 0, holds these weights.

    `suite.training.trainer.fit` goes on from it with a fresh optimiser, unless weights are rounded: those are not
    trained. ``experiment.json`` comes last, so a folder that has it is whole.

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


def is_written(experiment: Experiment, folder: Path) -> bool:
    """Whether a run of this very experiment, bound or not, is in the folder.

    Raises:
        InputError: there is a run of another one.
    """
    if not config.is_run(folder):
        return False
    stored = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    if stored != json.loads(json.dumps(config.to_json(unbind(experiment)))):
        raise InputError(f'--run-dir "{folder}"', "holds another run than this compression makes.",
                         fix="the flags that it was begun with, or another --run-dir")  # fmt: skip
    return True


def _state(experiment: Experiment, params: Any, rest: Any) -> dict[str, Any]:
    """The fields of `suite.training.trainer.State`."""
    if is_rounded(experiment.compression):
        return {"step": jnp.int32(0), "params": params, "rest": rest, "opt": {}, "ema": None}
    train, optim = experiment.train, experiment.optim
    state = assemble(experiment, max(train.steps, optim.warmup_steps + 1)).init()
    ema = jax.tree.map(jnp.copy, params) if train.ema else None
    return dict(vars(dataclasses.replace(state, params=params, rest=rest, ema=ema)))
