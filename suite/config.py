"""Experiment: one typed value that says everything about a run. Objects, not files; fork, don't inherit."""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from suite.base import ModelConfig, Task
from suite.compression.settings import Distillation, Pruning, Sparsity
from suite.errors import InputError, closest


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser and its schedule."""

    name: Literal["adamw", "sgd", "lion", "muon", "adafactor"] = "adamw"
    """adamw, sgd (with Nesterov momentum), lion, muon (AdamW for what is no matrix) or adafactor."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    end_fraction: float = 0.0
    """Learning rate at the last step, as a fraction of the peak."""
    weight_decay: float = 0.0
    """Decoupled weight decay, for sgd too. PyTorch's SGD sends it through the momentum m instead, which makes it
    ``1 / (1 - m)`` times as strong: its 5e-4 with momentum 0.9 is 5e-3 here."""
    no_decay: tuple[str, ...] = (r"bias$", r"scale$", r"embedding$")
    """Regular expressions on parameter paths that weight decay leaves alone."""
    clip_norm: float = 0.0
    """Global gradient norm above which gradients are scaled down. 0: off."""
    beta1: float = 0.9
    """Decay of the first moment (momentum for sgd and muon)."""
    beta2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    layer_decay: float = 1.0
    """Factor on the learning rate for each layer further from the head. 1: off."""
    frozen: tuple[str, ...] = ()
    """Regular expressions on parameter paths that training does not change."""
    rates: tuple[tuple[str, float], ...] = ()
    """Factors on the learning rate by regular expression on parameter paths, the first match counting; for a new head
    on a trained body: (("head", 10.0),)."""
    tables: Literal["adam", "adagrad", "dense"] = "adam"
    """Optimiser of a model's row-sparse tables, which acts on the rows of the batch alone (lazily: other rows' moments
    wait). dense: tables are parameters like any other, and a step costs their whole size."""
    sparsity: Sparsity = field(default_factory=Sparsity)
    """Pruning of single weights while training."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long, how much at a time, and when to look."""

    seed: int = 0
    """Seeds initial parameters, order of examples, augmentation and dropout."""
    steps: int = 0
    """Optimiser steps. 0: from epochs."""
    epochs: float = 1.0
    """Passes over the training split, where steps is 0."""
    batch_size: int = 128
    """Examples a step, over all devices."""
    accumulate: int = 1
    """Micro-batches a step is split into, to save memory."""
    steps_per_dispatch: int = 1
    """Steps run by one call of the compiled program (lax.scan): more where a step takes under a millisecond."""
    ema: float = 0.0
    """Decay of the exponential moving average of the parameters that is evaluated and served. 0: off."""
    eval_every: int = 0
    """Steps between evaluations on the validation split. 0: once an epoch."""
    eval_batch_size: int = 0
    """Examples an evaluation batch. 0: as batch_size."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    best: str = "accuracy"
    """Validation metric whose best checkpoint is kept and served; a leading minus means lower is better,
    as in ``--train.best=-loss``. Empty: the last."""
    patience: int = 0
    """Stop after this many evaluations without a better one. 0: never."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What a loss that is no number does. skip: a step whose loss or gradient is not finite changes nothing, and the
    run stops when all steps between two lines of the log were such."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The input pipeline."""

    workers: int = 0
    """Processes that encode batches. 0: a thread of this process."""
    prefetch: int = 4
    """Batches prepared ahead."""
    buckets: tuple[int, ...] = ()
    """Padded lengths for ragged data, rising; each compiles once. Empty: about four, multiples of 8 near the quantiles
    of the lengths."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The device mesh. -1 for one of data, fsdp and tensor: all devices left over."""

    data: int = -1
    """Devices that share a batch, of each group where there are several (``dcn_data``)."""
    fsdp: int = 1
    """Devices that share the parameters too."""
    tensor: int = 1
    """Devices that share each matrix; they divide the attention heads."""
    sequence: bool = False
    """Between blocks, split activations along time over the devices of tensor, which divide the padded lengths."""
    dcn_data: int = 1
    """Groups of devices (slices of a TPU, hosts) that share a batch over a slower network."""
    engine: Literal["jit", "pmap"] = "jit"
    """jit over the mesh; or pmap, which shares out the batch and nothing else: the same numbers."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Number formats. Parameters, optimiser state, norms, softmax and losses are always float32."""

    compute: Literal["float32", "bfloat16"] = "float32"
    """Format of matrix operands; bfloat16 products are summed in float32."""
    dropout: Literal["hash", "threefry"] = "hash"
    """Source of dropout masks: a hash of (seed, step, layer, index), fused into its user; or JAX's threefry."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a loss of power costs."""

    every: int = 0
    """Steps between checkpoints. 0: at each evaluation."""
    keep: int = 2
    """Latest checkpoints kept; the best one is kept besides."""
    init_from: str = ""
    """What training starts from: a run folder (its best parameters), or published weights, as a folder with
    config.json and safetensors or as a name on the Hugging Face hub. Empty: fresh parameters."""
    offline: bool = False
    """Take names on the hub from the local cache only."""


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """What of a model training changes, beyond ``optim.frozen``."""

    kind: Literal["full", "head", "lora", "adapters"] = "full"
    """full: everything; head: only what ``trained`` names; lora: low-rank additions to linear layers
    (arXiv 2106.09685) and the head; adapters: small bottlenecks after them (arXiv 1902.00751) and the head."""
    rank: int = 8
    """Rank of the low-rank additions, or width of the adapters."""
    alpha: float = 16.0
    """Low-rank additions are scaled by alpha / rank."""
    dropout: float = 0.0
    """Fraction of the additions' inputs that training drops."""
    targets: tuple[str, ...] = ()
    """Regular expressions on paths of the linear layers that get additions, e.g. "encoder" for all of them. Empty:
    query and value for lora, the outputs of attention and feed-forward for adapters."""
    trained: tuple[str, ...] = (r"^head", r"^pooler", r"^classifier")
    """Regular expressions on parameter paths that are trained besides, whatever the kind."""
    delta: str = ""
    """A folder that suite convert --delta wrote: training goes on from what was trained there."""


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What suite compress does. Evaluation, export and serving build models by ``quantize``; the rest says how one was
    made."""

    quantize: Literal["none", "int8", "int4", "int8-dynamic", "int8-static"] = "none"
    """Format of the large weights. int8, int4: weights alone, each output, or group of inputs, with a scale of its own.
    Inputs of products are int8 too with int8-dynamic, which scales each row as it comes, and int8-static, by ranges of
    training records."""
    aware: bool = False
    """Training sees rounded weights (and inputs) and keeps float ones, which are rounded afterwards
    (arXiv 1712.05877)."""
    group: int = 64
    """int4: inputs that share a scale."""
    calibrate: int = 512
    """int8-static: training records that give the ranges of inputs."""
    keep: tuple[str, ...] = ()
    """Regular expressions on paths of layers whose weights stay float32, e.g. "^head"."""
    prune: Pruning = field(default_factory=Pruning)
    """What is taken out."""
    distill: Distillation = field(default_factory=Distillation)
    """What a student learns of its teacher, and what is left of a pruned model of the whole one."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search for the goal may cost at most."""

    trials: int = 20
    """Trainings."""
    hours: float = 0.0
    """Hours, of all trials together; one that has begun is finished. 0: no limit."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers that a search may give a field."""

    field: str
    """Dotted name, as of a flag: "optim.learning_rate"."""
    low: float
    """Least value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Whether factors count, and not differences: for rates and decays."""
    whole: bool = False
    """Whole numbers only."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Values that a search may give a field."""

    field: str
    """Dotted name, as of a flag."""
    among: tuple[Any, ...]
    """Numbers, texts, truth values or tuples of them."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is changed from trial to trial where a recipe misses its goal."""

    space: tuple[Range | Choice, ...] = ()
    """Fields and their values. Empty: the learning rate, from a fifth to five times the recipe's own."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial before its time: being worse than the middle one at the same step; successive halving
    (arXiv 1603.06560); or nothing."""
    seed: int = 0
    """Seeds the sampler (a tree-structured Parzen estimator)."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The quality a recipe must reach."""

    metric: str = "accuracy"
    """Name of the metric."""
    at_least: float = 0.0
    """Value to reach, where higher is better."""
    at_most: float | None = None
    """Value not to pass, where lower is better; at_least then says nothing."""
    on: str = "validation"
    """Split it is measured on. A search decides by validation all the same, and looks at another split once."""
    budget: Budget = field(default_factory=Budget)
    """What suite tune may spend to reach it."""

    @property
    def bound(self) -> float:
        """The value to reach, or not to pass."""
        return self.at_least if self.at_most is None else self.at_most

    def met(self, value: float) -> bool:
        """Whether a value of the metric is good enough."""
        return value >= self.at_least if self.at_most is None else value <= self.at_most

    def __str__(self) -> str:
        return f"{self.on}/{self.metric} {'>=' if self.at_most is None else '<='} {self.bound}"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything about a run."""

    name: str
    """Dotted name, as ``suite list`` prints it."""
    task: Task
    """What is learnt, from which data."""
    model: ModelConfig
    """The network."""
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    pipeline: Pipeline = field(default_factory=Pipeline)
    parallel: Parallel = field(default_factory=Parallel)
    precision: Precision = field(default_factory=Precision)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    finetune: Finetune = field(default_factory=Finetune)
    compression: Compression = field(default_factory=Compression)
    goal: Goal | None = None
    """The quality to reach, or None."""
    search: Search = field(default_factory=Search)
    """What suite tune changes to reach it."""


OWN_PACKAGES = ("suite", "tasks")
"""Packages whose classes a stored experiment may name without being asked."""


def replace(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with fields changed by dotted name: ``{"optim.learning_rate": 3e-5}``.

    Raises:
        InputError: there is no such field.
    """
    for name, value in changes.items():
        experiment = _replaced(experiment, name, name.split("."), value)
    return experiment


def _replaced(node: Any, full: str, path: list[str], value: Any) -> Any:
    names = [f.name for f in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
    if path[0] not in names:
        near = closest(path[0], names)
        better = ".".join([*full.split(".")[: -len(path)], near, *path[1:]])
        raise InputError(
            f"field {full}",
            f'"{path[0]}" is no field here.',
            found=", ".join(names) or repr(node),
            fix=better if near else "",
        )
    new = _replaced(getattr(node, path[0]), full, path[1:], value) if path[1:] else value
    return dataclasses.replace(node, **{path[0]: new})


def is_run(source: str | Path) -> bool:
    """Whether ``source`` is a run folder, rather than a bundle, published weights or nothing at all."""
    return (Path(source) / "experiment.json").is_file() and not is_bundle(source)


def is_bundle(source: str | Path) -> bool:
    """Whether ``source`` is a bundle, as suite export writes it."""
    return (Path(source) / "bundle.json").is_file()


def to_json(value: Any) -> Any:
    """Dataclasses as ``{"class": "module.Name", field: value, ...}``, tuples as lists, scalars as they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    fix = "write arrays to an .npz file and name it: suite.data.sources.ArrayFile(path=...)"
    raise InputError("experiment", f"{type(value).__name__} cannot be stored as JSON: {value!r:.60}", fix=fix)


def from_json(value: Any, allow: tuple[str, ...] = (), own: tuple[str, ...] = OWN_PACKAGES) -> Any:
    """The inverse of ``to_json``. Only dataclasses of the packages, or modules, ``own`` and ``allow`` are built.

    Raises:
        InputError: the JSON names another class, or fields the class does not have.
    """
    if isinstance(value, list):
        return tuple(from_json(item, allow, own) for item in value)
    if not isinstance(value, dict):
        return value
    kind = _class(value.get("class"), (*own, *allow))
    known = {f.name for f in dataclasses.fields(kind) if f.init}
    unknown = sorted(value.keys() - known - {"class"})
    if unknown:
        raise InputError(
            f"experiment, {kind.__name__}",
            f"has no field {', '.join(unknown)}.",
            found=", ".join(sorted(known)),
            fix="write the run again with this version",
        )
    return kind(**{name: from_json(item, allow, own) for name, item in value.items() if name != "class"})


def packages(value: Any) -> tuple[str, ...]:
    """Packages of all classes that (a part of) an experiment is made of, which ``allow`` takes: it is trusted."""
    left, found = [to_json(value)], set[str]()
    while left:
        item = left.pop()
        if isinstance(item, dict):
            found.add(item["class"].split(".")[0])
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return tuple(sorted(found))


def _class(name: Any, allowed: tuple[str, ...]) -> type:
    module, _, kind = str(name).rpartition(".")
    if not any(module == each or module.startswith(f"{each}.") for each in allowed):
        raise InputError(
            "experiment",
            f'names the class "{name}", which is not one of the suite\'s.',
            found=f"allowed packages: {', '.join(allowed)}",
            fix="if you trust it: --allow PACKAGE, or allow=(...) in Python",
        )
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError):
        package = module.split(".")[0]
        fix = "" if package in OWN_PACKAGES else f"PYTHONPATH=FOLDER, the one that {package} lies in"
        raise InputError("experiment", f'names the class "{name}", which does not exist.', fix=fix) from None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise InputError("experiment", f'names "{name}", which is no dataclass.')
    return found


def dump(experiment: Experiment, path: Path) -> None:
    """Write the experiment as JSON, atomically."""
    write_text(path, json.dumps(to_json(experiment), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader, or a loss of power, sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
