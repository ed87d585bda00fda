"""Distillation: a student learns a teacher's answers beside the labels, and may learn what lies inside it.

The trainer knows nothing of it. A ModelConfig builds the student with its teacher attached, whose weights are no
parameters: they are neither differentiated nor updated, and lie in checkpoints with the other variables. A Task calls
the student's own task, hears what the student was asked and what it answered, and asks the teacher the same.

- Answers: the divergence of the outputs, both softened by a temperature (`Hinton et al., 2015
  <https://arxiv.org/abs/1503.02531>`_), times its square, so that the gradient's size doesn't depend on it.
- Tables: the student begins with the teacher's rows on their principal axes (`Raunak, 2017
  <https://arxiv.org/abs/1708.03629>`_), so it also knows what tokens mean that its own training never shows it.
- Hidden states: the squared distance of vectors of length one (`Sun et al., 2019 <https://arxiv.org/abs/1908.09355>`_),
  the student's through a learnt projection where widths differ (`Jiao et al., 2019
  <https://arxiv.org/abs/1909.10351>`_).
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.model import ModelConfig
from suite.contracts.task import Program, Task
from suite.errors import InputError
from suite.evaluation.losses import masked_mean
from suite.experiment.compression import Distillation
from suite.nn.hooks import Call, hooks
from suite.nn.linear import Linear
from suite.nn.rngs import streams
from suite.tree import nest, paths

Weights = tuple[Any, Any]
"""(params, model_state) of a model, nested dicts of arrays."""
TEACHER, PROJECTIONS = "teacher", "projections"
"""Modules attached to the student: names of attributes, and the first parts of paths."""
KEPT = {"remat": "none", "scan_layers": False}
"""Fields of a ModelConfig, where it has them, and the values with which what layers give out can be heard."""


class Fixed(nnx.Variable):
    """A weight that is no parameter."""


@dataclass(frozen=True, kw_only=True)
class Pair(ModelConfig):
    """A student with its teacher attached; the student's parameters have the paths they have without one."""

    student: ModelConfig
    """What is trained."""
    teacher: ModelConfig
    """What it learns from."""
    projections: tuple[tuple[int, int], ...] = ()
    """Width of the student's and of the teacher's vectors, of each pair of hidden states that differ in it."""

    def build(self, *, rngs: nnx.Rngs) -> nnx.Module:
        model = self.student.build(rngs=rngs)
        setattr(model, TEACHER, _fixed(self.teacher.build(rngs=rngs)))
        if self.projections:
            learnt = [Linear(ours, theirs, rngs=rngs) for ours, theirs in self.projections]
            setattr(model, PROJECTIONS, nnx.List(learnt))
        return model

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return self.student.sharding

    @property
    def tables(self) -> dict[str, str]:
        return self.student.tables

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {**self.teacher.shared_by_tensor, **self.student.shared_by_tensor}

    @property
    def depth(self) -> int:
        return self.student.depth

    def layer_of(self, path: str) -> int:
        return self.depth if path.startswith(PROJECTIONS) else self.student.layer_of(path)


def _fixed(model: nnx.Module) -> nnx.Module:
    """The model with weights that are no parameters."""
    for _, module in nnx.iter_modules(model):
        for name, value in list(vars(module).items()):
            if isinstance(value, nnx.Param):
                setattr(module, name, Fixed(value[...]))
    return model


def attached(pair: Pair, student: Weights, teacher: Weights, seed: int) -> Weights:
    """(params, model_state) of the pair, of those of its two models; projections are drawn by ``seed``."""
    params, model_state = student
    if pair.projections:
        rngs = streams(seed)
        learnt = nnx.List([Linear(ours, theirs, rngs=rngs) for ours, theirs in pair.projections])
        params = {**params, PROJECTIONS: nnx.to_pure_dict(nnx.state(learnt, nnx.Param))}
    return params, {**model_state, TEACHER: nest({**paths(teacher[0]), **paths(teacher[1])})}


def with_tables(student: Weights, teacher: Weights, tables: Sequence[tuple[str, str]]) -> Weights:
    """The student's weights with tables that are the teacher's on as many principal axes as they are wide.

    Args:
        student, teacher: weights of both.
        tables: pairs of paths of parameters (r, d), the teacher's first; d is at most the teacher's.

    Raises:
        InputError: there is no such table, or the two don't fit.
    """
    params, theirs = paths(student[0]), paths(teacher[0])
    for other, own in tables:
        for whose, path, known in (("teacher", other, theirs), ("student", own, params)):
            if path not in known or known[path].ndim != 2:
                known_tables = ", ".join(name for name, value in known.items() if value.ndim == 2)
                raise InputError("field distill.tables", f"the {whose} has no table {path}.", found=known_tables)
        (rows, wide), (count, width) = theirs[other].shape, params[own].shape
        if rows != count or width > wide:
            raise InputError(
                "field distill.tables",
                f"{own} cannot begin with {other}.",
                found=f"teacher {rows} x {wide}, student {count} x {width}",
                fix="tables of as many rows, the student's no wider",
            )
        projected = _projected(np.asarray(theirs[other], np.float64), width)
        fresh = np.asarray(params[own], np.float64)
        params[own] = jnp.asarray(projected * (fresh.std() / projected.std()), params[own].dtype)
    return nest(params), student[1]


def _projected(table: np.ndarray, width: int) -> np.ndarray:
    """Rows (r, d) on the ``width`` axes along which they differ most, (r, width)."""
    centred = table - table.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return centred @ axes[:, : -width - 1 : -1]


def detached(params: Any, model_state: Any) -> Weights:
    """(params, model_state) of the student alone."""
    alone = (
        {name: value for name, value in part.items() if name not in (TEACHER, PROJECTIONS)}
        for part in (params, model_state)
    )
    return next(alone), next(alone)


class _Asked:
    """A model as a task sees it; notes what it is asked and what it answers."""

    def __init__(self, model: nnx.Module):
        self._model = model
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        output = self._model(*inputs, **named)  # type: ignore[operator]
        self.calls.append((inputs, named, output))
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@dataclass(frozen=True)
class Given:
    """What a part of a model gave out.

    Attributes:
        output: (b, ..., d); of several outputs the first.
        real: (b, ...) which rows, or places of a row, are no padding, as the part was told or told itself; None: all.
    """

    output: Float[Array, "b ... d"]
    real: Bool[Array, "b ..."] | None


def given(path: str, call: Call) -> Given:
    """The hidden state that the part at ``path`` gave out in this call.

    What is told of padding is the boolean array that speaks of the output's first axes, the most of them.

    Raises:
        InputError: it gave out no vectors.
    """
    output, *others = call.output if isinstance(call.output, tuple) else (call.output,)
    if not (isinstance(output, jax.Array) and output.ndim >= 2 and jnp.issubdtype(output.dtype, jnp.floating)):
        raise InputError("field distill.hidden", f'"{path}" gives out no vectors.', found=type(output).__name__)
    told = [
        value
        for value in (*others, *call.inputs, *call.named.values())
        if isinstance(value, jax.Array) and value.dtype == bool and value.shape == output.shape[: value.ndim]
    ]
    return Given(output, max(told, key=lambda value: value.ndim, default=None))


@dataclass(frozen=True)
class Heard:
    """One batch through student and teacher.

    Attributes:
        loss, tallies: of the student's own task.
        ours, theirs: answers of student and teacher.
        hidden: the pairs of hidden states, the student's first.
    """

    loss: jax.Array
    tallies: dict[str, MetricState]
    ours: Any
    theirs: Any
    hidden: list[tuple[Given, Given]]


def hear(model: Any, task: Task, batch: Batch, rngs: nnx.Rngs | None, pairs: Sequence[tuple[str, str]]) -> Heard:
    """The student's loss, and what both say to the same inputs; the teacher without dropout.

    Args:
        model: what `Pair` builds.
        task: the student's.
        batch: encoded as the student's task does it.
        rngs: of dropout.
        pairs: paths of parts, the teacher's first.

    Raises:
        InputError: a model has no such part.
    """
    student = _Asked(model)
    with hooks(model, [path for _, path in pairs], where="field distill.hidden") as ours:
        loss, tallies = task.loss(student, batch, rngs)
    if len(student.calls) != 1:
        raise InputError(
            "flag --distill",
            "a teacher is asked what the task asks its model, once; this task calls parts of the model.",
            found=f"{len(student.calls)} calls of the whole model",
            fix="--distill.logits 0",
        )
    ((inputs, named, answer),) = student.calls
    teacher = getattr(model, TEACHER)
    with hooks(teacher, [path for path, _ in pairs], where="field distill.hidden") as theirs:
        told = teacher(*inputs, **{**named, "rngs": None})
    hidden = [(given(own, ours[own][-1]), given(other, theirs[other][-1])) for other, own in pairs]
    return Heard(loss, tallies, answer, jax.lax.stop_gradient(told), hidden)


@dataclass(frozen=True, kw_only=True)
class Distilled(Task):
    """The student's task, with a teacher's answers beside its labels. Evaluated, it is the student's."""

    task: Task
    """The student's, with its fitted assets."""
    settings: Distillation = field(default_factory=Distillation)
    """What counts how much."""

    @property
    def data(self) -> Data:  # type: ignore[override]  # the student's, which is no field of this task
        return self.task.data

    @property
    def codec(self) -> Codec:
        return self.task.codec

    def source(self, split: str) -> Source:
        return self.task.source(split)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        return self.task.encode(columns, rng)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """The weighted sum; ``labels``, ``logits`` and ``hidden`` are tallied besides."""
        settings = self.settings
        heard = hear(model, self.task, batch, rngs, settings.hidden)
        count = heard.tallies["loss"].count
        parts = {"labels": heard.loss}
        if settings.logits:
            apart = self.task.distillation_loss(heard.ours, heard.theirs, batch, settings.temperature)
            parts["logits"] = settings.temperature**2 * apart.sum() / jnp.maximum(count, 1)
        if settings.hidden:
            learnt = iter(getattr(model, PROJECTIONS, ()))
            parts["hidden"] = sum(_apart(*pair, learnt, batch["mask"]) for pair in heard.hidden) / len(heard.hidden)
        weights = {"labels": settings.labels, "logits": settings.logits, "hidden": settings.states}
        total = sum(weights[name] * part for name, part in parts.items())
        tallies = {name: MetricState(part * count, count) for name, part in {**parts, "loss": total}.items()}
        return jnp.asarray(total), {**heard.tallies, **tallies}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self.task.predict(model, batch, reference)

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self.task.evaluate(model, batch, reference)

    def reference(self, split: str) -> Source | None:
        return self.task.reference(split)

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return self.task.embed(model, batch)

    @property
    def catalogue(self) -> Codec | None:
        return self.task.catalogue

    def programs(self) -> dict[str, Program]:
        return self.task.programs()

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        return self.task.score(outputs, batch, reference)


def _apart(ours: Given, theirs: Given, learnt: Any, rows: jax.Array) -> Float[Array, ""]:
    """Mean squared distance of the vectors, brought to length one, over the real places of each row and over rows."""
    mine, yours = ours.output, jax.lax.stop_gradient(theirs.output)
    if mine.shape[-1] != yours.shape[-1]:
        mine = next(learnt)(mine)
    squares = jnp.square(_unit(mine) - _unit(yours)).sum(-1)
    real = rows if ours.real is None else ours.real & rows.reshape(-1, *[1] * (ours.real.ndim - 1))
    real = real.reshape(*real.shape, *[1] * (squares.ndim - real.ndim)).astype(jnp.float32)
    weights, places = jnp.broadcast_to(real, squares.shape), tuple(range(1, squares.ndim))
    means = (squares * weights).sum(places) / jnp.maximum(weights.sum(places), 1.0)
    return masked_mean(means, rows)


def _unit(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def matched(pair: Pair, task: Task, batch: Batch, settings: Distillation) -> Pair:
    """``pair`` with the projections that its hidden states need, found by shapes alone.

    Args:
        pair: without projections.
        task: the student's.
        batch: of any size, encoded and padded; arrays or their shapes.
        settings: which hidden states.

    Raises:
        InputError: outputs or hidden states of the two cannot be compared, or are not there.
    """
    _check(pair.student, settings)
    seen: list[tuple[Any, Any, list[tuple[Given, Given]]]] = []

    def called(model: Any, batch: Batch) -> jax.Array:
        heard = hear(model, task, batch, None, settings.hidden)
        shapes = jax.tree.map(lambda a: a.shape, (heard.ours, heard.theirs))
        seen.append((*shapes, heard.hidden))
        return heard.loss

    nnx.eval_shape(lambda batch: called(pair.build(rngs=streams(0)), batch), batch)
    ours, theirs, hidden = seen[-1]
    if ours != theirs:
        raise InputError(
            "flag --distill",
            "teacher and student answer with arrays of different shapes.",
            found=f"teacher {theirs}, student {ours}",
            fix="a student with the teacher's classes or symbols, and as many frames",
        )
    widths = []
    for (other, own), (mine, yours) in zip(settings.hidden, hidden, strict=True):
        if mine.output.shape[:-1] != yours.output.shape[:-1]:
            raise InputError(
                "field distill.hidden",
                f"{other} and {own} have vectors at different places.",
                found=f"teacher {yours.output.shape}, student {mine.output.shape}",
                fix="parts with as many frames, tokens or pixels",
            )
        widths.append((mine.output.shape[-1], yours.output.shape[-1]))
    return Pair(
        student=pair.student,
        teacher=pair.teacher,
        projections=tuple((ours, theirs) for ours, theirs in widths if ours != theirs),
    )


def kept(model: ModelConfig) -> ModelConfig:
    """The config of the same model, which keeps what its layers give out instead of computing it again."""
    changes = {name: plain for name, plain in KEPT.items() if getattr(model, name, plain) != plain}
    return replace(model, **changes) if changes else model  # type: ignore[type-var]


def _check(student: ModelConfig, settings: Distillation) -> None:
    """InputError where a value is out of range, or the student keeps no hidden states."""
    for name in ("labels", "logits", "states"):
        if not getattr(settings, name) >= 0:  # also refuses nan
            raise InputError(f"field distill.{name}", "must be at least 0.", found=str(getattr(settings, name)))
    if not settings.temperature > 0:
        raise InputError(
            "field distill.temperature",
            "must be above 0.",
            found=str(settings.temperature),
            fix="--distill.temperature 2",
        )
    for name, plain in KEPT.items():
        value = getattr(student, name, plain)
        if settings.hidden and value != plain:
            raise InputError(
                f"field model.{name}",
                f"is {value}, which keeps no hidden states to learn from.",
                fix=f"--model.{name} {shlex.quote(str(plain))}",
            )
