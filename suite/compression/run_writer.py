"""A run folder made of weights instead of by training: what every later verb opens, and training may go on from."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from suite.errors import InputError, RunError
from suite.experiment import serialization
from suite.experiment.sections import Experiment
from suite.runs.results import versions
from suite.runtime import files, json_files
from suite.surgery.quantize import is_rounded
from suite.training import privacy
from suite.training.assemble import assemble
from suite.training.checkpoint import Checkpoints, Progress
from suite.training.preprocessors import bind, unbind
from suite.training.state import State, to_stored


def write(experiment: Experiment, params: Any, model_state: Any, folder: Path, assets: Path) -> None:
    """A run folder whose one checkpoint, of step 0, holds these weights.

    `suite.training.trainer.fit` goes on from it with a fresh optimiser, unless weights are rounded: those are not
    trained. ``experiment.json`` comes last, so a folder that has it is whole.

    Args:
        experiment: what the weights are of; bound or not.
        params: nested dict of arrays.
        model_state: the model's other variables.
        folder: made if missing.
        assets: the folder of fitted assets to copy, in that of the run that the weights are from.

    Raises:
        InputError: the disk has no room.
        RunError: the checkpoint could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(assets, folder / "assets", dirs_exist_ok=True)
    privacy.keep(assets.parent, folder)
    files.write_text(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    experiment = unbind(experiment)
    state = _state(bind(experiment, folder), params, model_state)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.check_start(state)
        checkpoints.save(0, state, Progress())
    if checkpoints.served is None:
        raise RunError(f"the weights could not be written to {folder}: see the line above, then begin again")
    serialization.dump(experiment, folder / "experiment.json")


def is_written(experiment: Experiment, run: Path, folder: Path) -> bool:
    """Whether a run of this very experiment is in the folder ``run``.

    Args:
        experiment: bound or not; where its assets' files lie is no part of it, since the folder may have moved.
        run: the folder of a run, if it is one.
        folder: that of the compression, which has ``run`` in it or is it.

    Raises:
        InputError: there is a run of another one.
    """
    if not files.is_run(run):
        return False
    stored = json_files.read_object(run / "experiment.json")
    if _anywhere(stored) != _anywhere(json.loads(json.dumps(serialization.to_json(experiment)))):
        raise InputError(
            f'--run-dir "{folder}"',
            "holds another compression, or the beginning of one.",
            fix="the flags that it was begun with, or another --run-dir",
        )
    return True


def _anywhere(stored: Any) -> Any:
    """A stored experiment without the files of its assets."""
    if isinstance(stored, dict):
        return {name: _anywhere(value) for name, value in stored.items() if name != "file"}
    return [_anywhere(value) for value in stored] if isinstance(stored, list) else stored


def _state(experiment: Experiment, params: Any, model_state: Any) -> dict[str, Any]:
    """A state of no steps, as a checkpoint holds it."""
    if is_rounded(experiment.compression):
        return to_stored(State(jnp.int32(0), params, model_state, opt={}, ema=None))
    state = assemble(experiment).init()
    ema = jax.tree.map(jnp.copy, params) if experiment.train.ema else None
    return to_stored(dataclasses.replace(state, params=params, model_state=model_state, ema=ema))
