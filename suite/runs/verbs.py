"""The verbs: each a function that returns a Run (or a report), used by notebooks and by the command line."""

import contextlib
import dataclasses
import json
import math
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from suite.contracts.model import ModelConfig
from suite.contracts.preprocessor import Preprocessor
from suite.data.pipeline.dispatches import Encoder, make_plan
from suite.data.preprocessing.boxes import BoxLabels
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.errors import InputError, unused
from suite.experiment import serialization
from suite.experiment.defaults import settled
from suite.experiment.sections import Experiment, Parallel
from suite.parallel import hosts
from suite.planning import compilers, planning, simulation
from suite.planning.hardware import hardware
from suite.runs import baselines
from suite.runs.results import new_folder, versions, write_result
from suite.runs.run import Run, open, read_experiment
from suite.runtime import allocation, files, json_files, locks
from suite.surgery import lora, quantize
from suite.training.initial_weights import check_runs
from suite.training.loop import OnEvaluation
from suite.training.preprocessors import bind, prepare, preprocessors_of
from suite.training.restore import begun
from suite.training.trainer import Enough, OnDispatch, fit, total_steps
from suite.weights import image_statistics, pretrained
from suite.weights.pretrained import Written

MADE = (
    locks.CLAIM,
    "experiment.json",
    "versions.json",
    "data.json",
    "privacy.json",
    "privacy-key",
    "loggers.json",
    "assets",
    "metrics.jsonl",
    "tensorboard",
    "wandb",
    "checkpoints",
)
"""Entries that training adds to a run folder before it ends."""


def train(
    experiment: Experiment,
    run_dir: str | Path = "",
    *,
    resume: bool = False,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
    enough: Enough | None = None,
    accept_changed_data: bool = False,
    measure_baseline: bool = True,
) -> Run:
    """Train an experiment to its end; the Run holds the validation metrics of the best checkpoint.

    Args:
        experiment: the recipe.
        run_dir: the run folder; by default ``runs/<date>-<name>``, numbered when taken.
        resume: go on in ``run_dir`` from its newest checkpoint.
        on_dispatch: called with each Dispatch before it is trained on.
        on_evaluation: called with a step and its validation metrics, once its checkpoint is on its way; what it raises
            ends training.
        enough: asked with the steps taken after each dispatch; True ends training in good order, at its best
            checkpoint.
        accept_changed_data: go on with other data than the run was begun with, which is refused otherwise.
        measure_baseline: after training, where ``train.baseline`` asks for it; False: not for this run.

    Raises:
        InputError: the input cannot be used, the folder already holds a run and ``resume`` is False, another process
            writes there, or the data are not those that the run was begun with.
        StorageError: the disk is full or fails; what was trained since the last checkpoint is lost.
    """
    allocation.keep_memory()
    with contextlib.ExitStack() as claim:  # of the first of several processes
        name, added = hosts.agreed(lambda: _taken(experiment.name, run_dir, resume, claim))
        folder, start = Path(name), time.perf_counter()
        again = f"then suite train --resume {shlex.quote(str(folder))}"
        claim.enter_context(files.storing(f'run "{folder}" could not be written to its end', again))
        try:
            experiment = _resized(experiment, folder)
            outcome = fit(
                experiment,
                folder,
                on_dispatch=on_dispatch,
                on_evaluation=on_evaluation,
                enough=enough,
                accept_changed_data=accept_changed_data,
            )
        except InputError:
            if hosts.is_first() and not begun(folder):  # so that the corrected command finds no run there
                for path in map(Path, added):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
            raise
        rate, before = outcome.pop("train/examples_per_second"), outcome.pop("train/seconds_before")
        if hosts.is_first():
            write_result(folder, "train", experiment.name, outcome, before + time.perf_counter() - start, rate)
        run = Run(folder, bind(as_stored(experiment, folder), folder), outcome)
        if measure_baseline:
            baselines.after_training(run)
        return run


def _taken(name: str, run_dir: str | Path, resume: bool, claim: contextlib.ExitStack) -> tuple[str, list[str]]:
    """The run folder, claimed, with the versions that it is made by; and what a start that is refused leaves there, to
    be removed: the folder where it is new, in one that was there what training adds, in one that holds a run
    nothing."""
    folder, fresh = _made(name, run_dir)
    again = f"suite train --resume {shlex.quote(str(folder))}"
    candidates = [folder] if fresh else [path for path in (folder / name for name in MADE) if not path.exists()]
    claim.enter_context(locks.writing(folder, again))
    held = (folder / "experiment.json").exists()
    if held and not resume:
        if folder / locks.CLAIM in candidates:
            (folder / locks.CLAIM).unlink()
        raise InputError(f'--run-dir "{folder}"', "already holds a run.", fix=again)
    added = [] if held else [str(path) for path in candidates]
    files.write_text(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    return str(folder), added


def _made(name: str, run_dir: str | Path) -> tuple[Path, bool]:
    """The run folder, and whether it was made by this call; by default one whose name no other process takes."""
    while True:
        folder = Path(run_dir) if run_dir else new_folder(name)
        try:
            folder.mkdir(parents=True)
            return folder, True
        except FileExistsError:
            if run_dir and folder.is_dir():
                return folder, False
            if run_dir:
                raise InputError(f'--run-dir "{folder}"', "is no folder.", fix=f"--run-dir {unused(folder)}") from None


def _resized(experiment: Experiment, folder: Path) -> Experiment:
    """With what the run in ``folder`` chose when it began: its open fields, and the sizes that it took from published
    weights, which may be gone."""
    if not begun(folder) or not files.is_run(folder):
        return experiment
    if experiment.defaults is not None:
        experiment = as_stored(experiment, folder)
    if not experiment.checkpoint.init_from:
        return experiment
    held = as_stored(experiment, folder).model
    return experiment if held == experiment.model else pretrained.resized(experiment, held)


def as_stored(experiment: Experiment, folder: Path) -> Experiment:
    """With the model's sizes as training took them from published weights, and its open fields as they were chosen."""
    stored = json_files.read_object(folder / "experiment.json")
    if experiment.defaults is not None:
        whole: Experiment = serialization.from_json(stored, serialization.packages(experiment))
        return dataclasses.replace(whole, callbacks=experiment.callbacks)
    return dataclasses.replace(
        experiment, model=serialization.from_json(stored["model"], serialization.packages(experiment.model))
    )


def resume(
    folder: str | Path,
    allow: tuple[str, ...] = (),
    *,
    parallel: Parallel | None = None,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
    accept_changed_data: bool = False,
) -> Run:
    """Go on with the run in ``folder``, exactly where its newest checkpoint stands.

    Args:
        folder: the run folder.
        allow: packages whose classes the run's experiment may name.
        parallel: another mesh, for another number of devices than the run had; the checkpoint is of none.
        on_dispatch, on_evaluation, accept_changed_data: as in ``train``.

    Raises:
        InputError: the folder is no run, or its data are not those that it was begun with.
    """
    experiment = stored(folder, allow)
    if parallel is not None:
        experiment = dataclasses.replace(experiment, parallel=parallel)
    return train(
        experiment,
        folder,
        resume=True,
        on_dispatch=on_dispatch,
        on_evaluation=on_evaluation,
        accept_changed_data=accept_changed_data,
    )


def stored(folder: str | Path, allow: tuple[str, ...] = ()) -> Experiment:
    """The experiment that the run in ``folder`` was begun with; its assets need not be fitted yet.

    Raises:
        InputError: the folder is no run, or its experiment names a class that is not allowed.
    """
    if not files.is_run(folder):
        open(folder)  # says what is wrong
    return read_experiment(Path(folder) / "experiment.json", allow)


def convert(source: str | Path, to: str | Path, *, offline: bool = False, allow: tuple[str, ...] = ()) -> Written:
    """Weights in the layout that the original library publishes: ``config.json``, ``model.safetensors``, tokenizer.

    Args:
        source: a run folder, of which the best weights are taken, with what fine-tuning added folded in; or published
            weights, as a folder or a name on the hub, which are read, written again and compared bit by bit. Of a run
            of several parts each is written to a folder of its own inside ``to``; those that the original libraries
            have no format for are left out.
        to: a new or an empty folder.
        offline: take names on the hub from the local cache only.
        allow: packages whose classes the run's experiment may name.

    Raises:
        InputError: ``to`` is not empty, or the original library has no such model.
    """
    folder = Path(to)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f'--to "{folder}"', "is there and not empty.", fix=f"--to {unused(folder)}")
    try:
        return _written(source, folder, offline, allow)
    except OSError:  # so that the same command finds the folder as it was
        for path in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _written(source: str | Path, folder: Path, offline: bool, allow: tuple[str, ...]) -> Written:
    if not files.is_run(source):
        return pretrained.rewrite(source, folder, offline=offline)
    opened = open(source, allow)
    quantize.check_float(opened.experiment, f'run "{source}"')
    params, rest = opened._weights
    experiment, assets = opened.experiment, preprocessors_of(opened.experiment.task)
    params = lora.fold(params, experiment.finetune)
    if not experiment.model.parts or pretrained.is_published(experiment.model):
        return _converted(experiment.model, params, rest, list(assets.values()), folder)
    written, refused = {}, {}
    for name, model in experiment.model.parts.items():
        own = [asset for asset in assets.values() if asset.part == name]
        try:
            written[name] = _converted(model, params[name], rest.get(name, {}), own, folder / name)
        except InputError as error:
            refused[name] = error
    if not written:
        raise next(iter(refused.values()))
    return Written(
        folder,
        " + ".join(part.format for part in written.values()),
        sum(part.tensors for part in written.values()),
        sum(part.values for part in written.values()),
        tuple(f"{name}/{file}" for name, part in written.items() for file in part.files),
        tuple(f"{name} ({error.where} {error.problem})" for name, error in refused.items()),
    )


def _converted(model: ModelConfig, params: Any, rest: Any, assets: list[Preprocessor], folder: Path) -> Written:
    """One model and what it was fitted with, as its original library publishes them."""
    labels = next((list(asset.names) for asset in assets if isinstance(asset, Labels | BoxLabels)), [])
    about = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    pretrained.save(model, params, rest, folder, about=about if labels else None)
    for asset in assets:
        if isinstance(asset, Tokenizer):
            asset.publish(folder)
        elif isinstance(asset, PixelStatistics):
            detector = any(isinstance(other, BoxLabels) for other in assets)
            image_statistics.write(folder, asset.shape[:2], asset.mean.tolist(), asset.std.tolist(), detector)
    return pretrained.report(folder)


def delta(folder: str | Path, to: str | Path, allow: tuple[str, ...] = ()) -> Path:
    """What the run in ``folder`` trained, alone; ``--finetune.delta`` takes it: `suite.surgery.lora`."""
    opened, target = open(folder, allow), Path(to)
    experiment = opened.experiment
    quantize.check_float(experiment, f'run "{folder}"')
    lora.write_delta(*opened._weights, experiment.finetune, experiment.optim, experiment.checkpoint, target)
    return target


def plan(
    experiment: Experiment, devices: str = "", compiler: compilers.Chosen = "auto", answers: bool = False
) -> dict[str, Any]:
    """What a training step of the experiment costs, compiled for shapes alone; ``planning.render`` prints it.

    Args:
        experiment: the recipe; its tokenizer and statistics are fitted in a temporary folder, to know sizes.
        devices: hardware to plan for, e.g. ``"tpu-v5e-32"``; empty: as many of this machine's as the mesh asks for.
            Devices that are not here are compiled for by their own compiler where it is installed, else simulated.
        compiler: ``"real"``: by no other than that of the devices; ``"simulated"``: by none but that for processors.
        answers: of a batch's answers instead, by which a split is scored.

    Raises:
        InputError: no such hardware, or the experiment's mesh or batch doesn't suit so many devices, or ``"real"`` and
            their compiler is missing.
        RunError: ``"real"``, and the compiler gave up.
    """
    if experiment.task.solved:
        problem = "is solved in closed form: there is no training step whose cost could be planned."
        raise InputError(
            f"task {type(experiment.task).__name__}", problem, fix=shlex.join(["suite", "train", experiment.name])
        )
    device, count = hardware(devices)
    sizes = [size for size in dataclasses.astuple(experiment.parallel) if isinstance(size, int) and size > 0]
    if not devices and math.prod(sizes) > count:
        device, count = hardware(f"{device.name}-{math.prod(sizes)}")
    with tempfile.TemporaryDirectory() as folder:
        check_runs(experiment)
        experiment, _ = settled(pretrained.adopt(experiment), experiment.task.source("train"))
        source = experiment.task.source("train")
        bound = prepare(experiment, Path(folder), source)
        train = bound.train
        buckets, passes = bound.pipeline.buckets, train.passes(len(source))
        order = make_plan(bound.task, source, train.batch_size, seed=None, buckets=buckets, passes=passes)
        steps = total_steps(train, order)
        if answers:  # as a split is scored: without augmentation, and without what only training is given
            source = bound.task.source("validation")
            order = make_plan(bound.task, source, train.batch_size, seed=None, buckets=buckets)
        longest = max(range(order.batches_per_epoch), key=lambda i: sum(order.padded_lengths(i).values()))
        batch = Encoder(bound.task, source, order, augment=not answers)((longest, 1))["batch"]
        shapes = {name: (value.shape, str(value.dtype)) for name, value in batch.items()}
        cost = simulation.cost_on(device.name, count, (bound, shapes, steps, answers), compiler)
    return planning.report(
        cost,
        device,
        batch_size=train.batch_size,
        experiment=experiment.name,
        parameters=cost["parameters"],
        accumulate=bound.gradient.microbatches,
        compute=bound.precision.compute,
        mesh=cost["mesh"],
        devices=count,
    )
