"""Experiment: one typed value that says everything about a run. Objects, not files; fork, don't inherit."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from suite.contracts.callback import Callback
from suite.contracts.defaults import Defaults
from suite.contracts.gradient import GradientRule
from suite.contracts.model import ModelConfig
from suite.contracts.task import Task
from suite.errors import InputError, closest
from suite.experiment.compression import Compression, Sparsity
from suite.experiment.former_names import current_field
from suite.experiment.goal import Goal, Search
from suite.experiment.mean_gradient import Mean
from suite.experiment.privacy import Privacy


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
    """Steps over which the learning rate rises linearly from 0. 0: from warmup_fraction. Of a run that is no longer
    than its warm-up, a tenth of its steps."""
    warmup_fraction: float = 0.0
    """The same as a share of the run's steps, where warmup_steps is 0."""
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
    """Validation metric whose best checkpoint is kept and served; of equal ones that with the lower loss, then the
    earlier. Each metric knows which way is better (`suite.contracts.metric_meaning`); of one that doesn't, higher is,
    unless a leading minus says otherwise: ``--train.best=-own``. Empty: the last checkpoint."""
    patience: int = 0
    """Stop after this many evaluations without a better one. 0: never."""
    baseline: bool = False
    """After training, measure a classical baseline on the validation split, too (suite baseline): recipes for your own
    data do."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What a loss that is no number does. skip: a step whose loss or gradient is not finite changes nothing, and the
    run stops when all steps between two lines of the log were such."""
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where metrics, the fields of the experiment and its recipe go besides metrics.jsonl: event files in the run
    folder, an MLflow server or store (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME), or Weights & Biases (WANDB_PROJECT,
    WANDB_MODE)."""

    def passes(self, records: int) -> float:
        """How often a training split of so many records is seen."""
        return self.steps * self.batch_size / records if self.steps else self.epochs


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The input pipeline."""

    workers: int = 0
    """Processes that encode batches. 0: a thread of this process."""
    prefetch: int = 4
    """Batches prepared ahead."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """Which training records an epoch holds: each once, in a random order; or as many of each class, drawn from it
    without repetition until all of the class have been (balanced). An epoch has as many records either way."""
    buckets: tuple[int, ...] | Mapping[str, tuple[int, ...]] = ()
    """Padded lengths for ragged data, rising; each compiles once. Empty: about four, multiples of 8 near the quantiles
    of the lengths; fewer of few data, where padding costs less than compiling. Of a task whose rows run along several
    axes AXIS=LENGTH,LENGTH for each that should not be so."""


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
    init_from: str | Mapping[str, str] = ""
    """What training starts from: a run folder (its best parameters), or published weights, as a folder with
    config.json and safetensors or as a name on the Hugging Face hub. Empty: fresh parameters. Of a model of parts
    NAME=SOURCE for each part that doesn't start fresh."""
    offline: bool = False
    """Take names on the hub from the local cache only."""

    def start(self, part: str = "") -> str:
        """What a part starts from, or the whole model where ``init_from`` names no parts; empty: fresh parameters."""
        return self.init_from if isinstance(self.init_from, str) else self.init_from.get(part, "")


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
    gradient: GradientRule = field(default_factory=Mean)
    """How a step gets from the loss to gradients: of the mean over the batch, unless a recipe names another rule."""
    privacy: Privacy = field(default_factory=Privacy)
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
    callbacks: tuple[Callback, ...] = ()
    """Code of one's own that training calls."""
    defaults: Defaults | None = None
    """What chooses the fields that the recipe leaves open, by a look at the training data; None: nothing is open, as
    of a stored experiment."""


def replace(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with fields changed by dotted name: ``{"optim.learning_rate": 3e-5}``.

    Fields that moved may be named as before.

    Raises:
        InputError: there is no such field.
    """
    for given, value in changes.items():
        name = current_field(given)
        experiment = _replaced(experiment, name, name.split("."), value)
    return experiment


def _replaced(node: Any, full: str, path: list[str], value: Any) -> Any:
    mapping = isinstance(node, Mapping)
    names = (
        list(node) if mapping else [f.name for f in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
    )
    if path[0] not in names:
        near = closest(path[0], names)
        better = ".".join([*full.split(".")[: -len(path)], near, *path[1:]])
        raise InputError(
            f"field {full}",
            f'"{path[0]}" is no field here.',
            found=", ".join(names) or repr(node),
            fix=better if near else "",
        )
    own = node[path[0]] if mapping else getattr(node, path[0])
    new = _replaced(own, full, path[1:], value) if path[1:] else value
    return {**node, path[0]: new} if mapping else dataclasses.replace(node, **{path[0]: new})
