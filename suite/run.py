"""The verbs: each a function that returns a Run (or a report), used by notebooks and by the command line."""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite import adaptation, allocation, config, experiments
from suite.assets import asset_file, assets_of, bind, prepare
from suite.base import Codec, Columns, Source
from suite.bundles.answering import answer
from suite.compilation import enable_cache
from suite.compression import quantized
from suite.config import Experiment, Parallel
from suite.data.labels import Labels
from suite.data.padding import bucket, count, default_buckets, pad
from suite.data.pipeline import Encoder, Plan, make_plan
from suite.data.tokenizers import Tokenizer
from suite.distributed import hosts
from suite.errors import InputError
from suite.evaluation import evaluate as evaluate_split
from suite.evaluation import examine, make_predict, score_records
from suite.exhibits import Exhibit
from suite.intervals import Scores
from suite.log import history
from suite.nn.layout import Layout
from suite.planning import planning, simulation
from suite.planning.hardware import hardware
from suite.training.loop import OnEvaluation
from suite.training.trainer import OnDispatch, Program, assemble, begun, fit, read_weights, total_steps
from suite.weights import pretrained
from suite.weights.pretrained import Written

PACKAGES = ("suite", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
MADE = ("experiment.json", "versions.json", "assets", "metrics.jsonl", "tensorboard", "checkpoints")
"""What training adds to a run folder before it ends."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder: ``experiment.json``, ``result.json``, ``metrics.jsonl``, ``assets/``, ``checkpoints/``.

    Attributes:
        folder: its path.
        experiment: the recipe, bound to the folder's assets.
        metrics: ``"<split>/<metric>"`` -> value, of the verb that made this Run.
    """

    folder: Path
    experiment: Experiment
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def history(self) -> dict[str, list[float | None]]:
        """What was logged, as columns of equal length; ``step`` is one of them."""
        return history(self.folder)

    @functools.cached_property
    def _program(self) -> Program:
        allocation.keep_memory()
        enable_cache()
        return assemble(self.experiment)

    @functools.cached_property
    def _weights(self) -> tuple[Any, Any]:
        return read_weights(self._program, self.folder)

    @functools.cached_property
    def model(self) -> nnx.Module:
        """The trained module, for a look inside."""
        return nnx.merge(self.graph, *self._weights)

    @property
    def graph(self) -> Any:
        """The model without its variables, as `nnx.merge` takes it."""
        return self._program.graph

    @functools.cached_property
    def portable(self) -> "Run":
        """This run, computing in the forms that every device has, as its bundle does. Where a device has faster ones
        (oneDNN's convolutions, fused attention) sums are taken in another order, which bfloat16 rounds otherwise.
        """
        predict = make_predict(self.graph, self.experiment.task, Layout(portable=True))
        same = dataclasses.replace(self)
        same.__dict__.update(_program=dataclasses.replace(self._program, predict=predict), _weights=self._weights)
        return same

    @property
    def variables(self) -> tuple[Any, Any]:
        """Parameters and other variables that are evaluated and served, as `nnx.merge` takes them: nested dicts."""
        return self._weights

    def evaluate(self, split: str = "test", batch_size: int = 0) -> "Run":
        """This run with its metrics on ``split``; also written to ``result.json``."""
        task, begun = self.experiment.task, time.perf_counter()
        hosts.check_shared(self.folder)
        source = hosts.after_first(lambda: task.source(split))
        plan = self._plan(source, batch_size)
        found = evaluate_split(self._program.predict, *self._weights, task, source, plan, mesh=self._program.mesh)
        seconds = time.perf_counter() - begun
        metrics = {f"{split}/{name}": value for name, value in found.items()}
        if hosts.is_first():
            write_result(self.folder, "evaluate", self.experiment.name, metrics, seconds, len(source) / seconds)
        return dataclasses.replace(self, metrics=metrics)

    def scores(self, split: str = "test") -> Scores:
        """What each record of ``split`` adds to each metric: intervals, and differences from another run."""
        source = self.experiment.task.source(split)
        return score_records(self._program.predict, *self._weights, self.experiment.task, source, self._plan(source))

    def examine(self, split: str = "test") -> tuple[Scores, dict[str, Exhibit]]:
        """``scores``, and what the task has to show of the split, by title."""
        source = self.experiment.task.source(split)
        return examine(self._program.predict, *self._weights, self.experiment.task, source, self._plan(source))

    def check(self) -> "Run":
        """This run, whose weights could be read.

        Raises:
            InputError: there is no checkpoint, or it is damaged or of another model.
        """
        _ = self._weights
        return self

    @property
    def parameters(self) -> int:
        """How many parameters the model has."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._program.abstract.params))

    def _plan(self, source: Source, batch_size: int = 0) -> Plan:
        train = self.experiment.train
        size = batch_size or train.eval_batch_size or train.batch_size
        return make_plan(self.experiment.task, source, size, seed=None, buckets=self.lengths)

    def predict(self, inputs: Sequence[Any] | Columns) -> list[dict[str, Any]]:
        """One answer a record. ``inputs``: columns as in the data, or a list of bare values (texts, images)."""
        outputs = lambda rows, size: self.outputs(rows, bucket(rows, self.lengths), size)
        return answer(self.experiment.task.codec, outputs, inputs)

    def outputs(self, rows: dict[str, Any], length: int, size: int = 0) -> dict[str, np.ndarray]:
        """What the model says of n encoded rows, each array (n, ...). Several processes are given the same rows, and
        have the outputs on all of them each.

        Args:
            rows: see `Codec.encode`.
            length: that they are padded to.
            size: rows that their batch is filled up to; 0: n.
        """
        real = np.arange(max(size, count(rows))) < count(rows)
        made = hosts.fetched(self._program.predict(*self._weights, pad(rows, real, length)))
        return {name: value[real] for name, value in made.items()}

    @property
    def codec(self) -> Codec:
        """What a request becomes, and what becomes of the answer."""
        return self.experiment.task.codec

    @property
    def primary(self) -> str:
        """The column that a bare value stands for."""
        return self.codec.primary

    @property
    def lengths(self) -> tuple[int, ...]:
        """The padded lengths training used, so that a program compiled once serves every request."""
        if self.experiment.pipeline.buckets:
            return self.experiment.pipeline.buckets
        stored = self.folder / "assets" / "lengths-train.npy"
        return default_buckets(np.load(stored)) if stored.exists() else ()


def open(folder: str | Path, allow: tuple[str, ...] = ()) -> Run:
    """The run in a folder.

    Raises:
        InputError: the folder is no run, or its experiment names a class that is not allowed.
    """
    folder = Path(folder)
    stored = folder / "experiment.json"
    if not stored.is_file():
        inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        found, fix = ", ".join(inside[:8]) or "nothing", "the folder that suite train printed last"
        raise InputError(f'run folder "{folder}"', "is not one: it has no experiment.json.", found=found, fix=fix)
    experiment = read_experiment(stored, allow)
    assets = assets_of(experiment.task)
    missing = [name for name, asset in assets.items() if not asset_file(folder, name, asset).exists()]
    if missing:
        raise InputError(
            f'run folder "{folder}"',
            f"has no fitted {', '.join(missing)}: training did not begin.",
            fix=f"suite train --resume {folder}",
        )
    result = folder / "result.json"
    metrics = json.loads(result.read_text())["metrics"] if result.exists() else {}
    return Run(folder, bind(experiment, folder), metrics)


def read_experiment(path: Path, allow: tuple[str, ...] = ()) -> Experiment:
    """The experiment stored in a JSON file."""
    try:
        value = config.from_json(json.loads(path.read_text(encoding="utf-8")), allow)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"is not JSON: {error}", fix="train again, or restore the file") from None
    if not isinstance(value, Experiment):
        raise InputError(str(path), "does not hold an experiment.")
    return value


def train(
    experiment: Experiment,
    run_dir: str | Path = "",
    *,
    resume: bool = False,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Run:
    """Train an experiment to its end; the Run holds the validation metrics of the best checkpoint.

    Args:
        experiment: the recipe.
        run_dir: the run folder; by default ``runs/<date>-<name>``, numbered when taken.
        resume: go on in ``run_dir`` from its newest checkpoint.
        on_dispatch: called with each Dispatch before it is trained on.
        on_evaluation: called with a step and its validation metrics, once its checkpoint is on its way; what it raises
            ends training.

    Raises:
        InputError: the input cannot be used, or the folder already holds a run and ``resume`` is False.
    """
    name, added = hosts.agreed(lambda: _taken(experiment.name, run_dir, resume))
    folder, start = Path(name), time.perf_counter()
    try:
        experiment = _resized(experiment, folder)
        found = fit(experiment, folder, on_dispatch=on_dispatch, on_evaluation=on_evaluation)
    except InputError:
        if hosts.is_first() and not begun(folder):  # so that the corrected command finds no run there
            for path in map(Path, added):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        raise
    rate, before = found.pop("train/examples_per_second"), found.pop("train/seconds_before")
    if hosts.is_first():
        write_result(folder, "train", experiment.name, found, before + time.perf_counter() - start, rate)
    return Run(folder, bind(as_stored(experiment, folder), folder), found)


def _taken(name: str, run_dir: str | Path, resume: bool) -> tuple[str, list[str]]:
    """The run folder, with the versions that it is made by; and what a start that is refused leaves there, to be
    removed: the folder where it is new, in one that was there what training adds, in one that holds a run nothing."""
    folder = Path(run_dir) if run_dir else new_folder(name)
    held = (folder / "experiment.json").exists()
    if held and not resume:
        raise InputError(f'--run-dir "{folder}"', "already holds a run.", fix=f"suite train --resume {folder}")
    made = [folder / name for name in MADE] if folder.exists() else [folder]
    added = [] if held else [str(path) for path in made if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(folder / "versions.json", json.dumps(versions(), indent=1) + "\n")
    return str(folder), added


def _resized(experiment: Experiment, folder: Path) -> Experiment:
    """With the sizes that the run in ``folder`` took from published weights when it began: it has them from nowhere
    else, since the weights may be gone."""
    start = experiment.checkpoint.init_from
    if not start or config.is_run(start) or not begun(folder) or not config.is_run(folder):
        return experiment
    held = as_stored(experiment, folder).model
    if held == experiment.model:
        return experiment
    return dataclasses.replace(experiment, model=experiment.model.adopt(held))


def as_stored(experiment: Experiment, folder: Path) -> Experiment:
    """With the model's sizes as training took them from published weights."""
    stored = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["model"]
    return dataclasses.replace(experiment, model=config.from_json(stored, config.packages(experiment.model)))


def resume(
    folder: str | Path,
    allow: tuple[str, ...] = (),
    *,
    parallel: Parallel | None = None,
    on_dispatch: OnDispatch | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Run:
    """Go on with the run in ``folder``, exactly where its newest checkpoint stands.

    Args:
        folder: the run folder.
        allow: packages whose classes the run's experiment may name.
        parallel: another mesh, for another number of devices than the run had; the checkpoint is of none.
        on_dispatch, on_evaluation: as in ``train``.
    """
    experiment = stored(folder, allow)
    if parallel is not None:
        experiment = dataclasses.replace(experiment, parallel=parallel)
    return train(experiment, folder, resume=True, on_dispatch=on_dispatch, on_evaluation=on_evaluation)


def stored(folder: str | Path, allow: tuple[str, ...] = ()) -> Experiment:
    """The experiment that the run in ``folder`` was begun with; its assets need not be fitted yet.

    Raises:
        InputError: the folder is no run, or its experiment names a class that is not allowed.
    """
    if not config.is_run(folder):
        open(folder)  # says what is wrong
    return read_experiment(Path(folder) / "experiment.json", allow)


def convert(source: str | Path, to: str | Path, *, offline: bool = False, allow: tuple[str, ...] = ()) -> Written:
    """Weights in the layout that the original library publishes: ``config.json``, ``model.safetensors``, tokenizer.

    Args:
        source: a run folder, of which the best weights are taken, with what fine-tuning added folded in; or published
            weights, as a folder or a name on the hub, which are read, written again and compared bit by bit.
        to: a new or an empty folder.
        offline: take names on the hub from the local cache only.
        allow: packages whose classes the run's experiment may name.

    Raises:
        InputError: ``to`` is not empty, or the original library has no such model.
    """
    folder = Path(to)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f'--to "{folder}"', "is there and not empty.", fix="--to NEW_FOLDER")
    if not config.is_run(source):
        return pretrained.rewrite(source, folder, offline=offline)
    made = open(source, allow)
    quantized.check_float(made.experiment, f'run "{source}"')
    params, rest = made._weights
    experiment, assets = made.experiment, assets_of(made.experiment.task)
    labels = next((list(asset.names) for asset in assets.values() if isinstance(asset, Labels)), [])
    about = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    pretrained.save(
        experiment.model, adaptation.fold(params, experiment.finetune), rest, folder, about=about if labels else None
    )
    for asset in assets.values():
        if isinstance(asset, Tokenizer):
            asset.publish(folder)
    return pretrained.report(folder)


def delta(folder: str | Path, to: str | Path, allow: tuple[str, ...] = ()) -> Path:
    """What the run in ``folder`` trained, alone; ``--finetune.delta`` takes it. See `suite.adaptation.write_delta`."""
    made, target = open(folder, allow), Path(to)
    experiment = made.experiment
    quantized.check_float(experiment, f'run "{folder}"')
    adaptation.write_delta(*made._weights, experiment.finetune, experiment.optim, experiment.checkpoint, target)
    return target


def plan(experiment: Experiment, devices: str = "") -> dict[str, Any]:
    """What a training step of the experiment costs, compiled for shapes alone; ``planning.render`` prints it.

    Args:
        experiment: the recipe; its tokenizer and statistics are fitted in a temporary folder, to know sizes.
        devices: hardware to plan for, e.g. ``"tpu-v5e-32"``; empty: as many of this machine's as the mesh asks for.
            Another number of devices than this process has is simulated.

    Raises:
        InputError: no such hardware, or the experiment's mesh or batch doesn't suit so many devices.
    """
    device, count = hardware(devices)
    sizes = [size for size in dataclasses.astuple(experiment.parallel) if isinstance(size, int) and size > 0]
    if not devices and math.prod(sizes) > count:
        device, count = hardware(f"{device.name}-{math.prod(sizes)}")
    with tempfile.TemporaryDirectory() as folder:
        source = experiment.task.source("train")
        bound = prepare(pretrained.adopt(experiment), Path(folder), source)
        train = bound.train
        order = make_plan(bound.task, source, train.batch_size, seed=None, buckets=bound.pipeline.buckets)
        longest = max(range(order.batches_per_epoch), key=lambda i: order.batch(i)[1])
        batch = Encoder(bound.task, source, order, augment=True)((longest, 1))["batch"]
        shapes = {name: (value.shape, str(value.dtype)) for name, value in batch.items()}
        steps = total_steps(train, order)
        cost = (
            simulation.step_cost(bound, shapes, steps)
            if count == jax.device_count()
            else simulation.simulated_cost(bound, shapes, steps, count)
        )
    return planning.report(
        cost,
        device,
        batch_size=train.batch_size,
        experiment=experiment.name,
        parameters=cost["parameters"],
        accumulate=train.accumulate,
        compute=bound.precision.compute,
        mesh=cost["mesh"],
        devices=count,
    )


def new_folder(name: str) -> Path:
    """A folder under ``runs`` that no run has taken."""
    stem = f"{datetime.date.today().isoformat()}-{name.replace('.', '-')}"
    candidates = (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def revision() -> str:
    """The git commit of the suite's own source, with ``+`` when it has changes; empty outside a checkout."""
    root = Path(experiments.__file__).parent.parent
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip()


def write_result(folder: Path, verb: str, name: str, metrics: dict[str, float], seconds: float, rate: float) -> None:
    """``result.json``, the same form for every verb; what training said of itself stays under ``trained``, also where a
    run that was trained to its end is gone on with, at a rate of 0."""
    path = folder / "result.json"
    found = {
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "examples_per_second": round(rate, 3),
        "devices": devices(),
        "revision": revision(),
    }
    before = json.loads(path.read_text(encoding="utf-8")).get("trained", {}) if path.exists() else {}
    trained = found if verb == "train" and (rate or not before) else before
    result = {"verb": verb, "experiment": name, **found, "versions": versions(), "trained": trained}
    config.write_text(path, json.dumps(result, indent=1) + "\n")


def devices() -> str:
    """What all processes of the run compute on: ``"8 x TPU v4"``."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
