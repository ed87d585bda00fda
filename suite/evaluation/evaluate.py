"""Evaluation of every record once, masked, and answers in the order of the records."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric import MetricState, add
from suite.contracts.task import Task
from suite.data.pipeline.dispatches import Dispatch, Encoder, Plan, dispatches
from suite.evaluation.bootstrap import Scores, by_record, joined
from suite.evaluation.reference import Reference, on_devices
from suite.parallel import hosts, sharding
from suite.parallel.batch_shards import Part, own_part, own_rows, place
from suite.parallel.layout import Layout, laid_out

Predict = Callable[..., dict[str, jax.Array]]
"""(params, model_state, batch (b, ...), reference) -> outputs (b, ...)."""


def make_predict(graph: Any, task: Task, layout: Layout = Layout()) -> Predict:
    """(params, model_state, batch, reference) -> outputs (b, ...) that requests are answered with, jitted."""
    return make_answer(graph, task.predict, layout)


def make_evaluate(graph: Any, task: Task, predict: Predict, layout: Layout = Layout()) -> Predict:
    """The same for the outputs that a split is scored by: ``predict`` itself, compiled once for both, where the task is
    measured as it is served."""
    return predict if type(task).evaluate is Task.evaluate else make_answer(graph, task.evaluate, layout)


def make_answer(graph: Any, function: Callable[..., dict[str, jax.Array]], layout: Layout = Layout()) -> Any:
    """(params, model_state, batch (b, ...), reference) -> outputs (b, ...) of a program's function, jitted."""

    def predict(
        params: Any, model_state: Any, batch: dict[str, Any], reference: dict[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        with laid_out(layout):
            model = nnx.merge(graph, params, model_state)
            return function(model, batch) if reference is None else function(model, batch, reference)

    return jax.jit(predict)


def outputs(
    predict: Predict,
    params: Any,
    model_state: Any,
    task: Task,
    source: Source,
    plan: Plan,
    mesh: Mesh | None = None,
    part: Part | None = None,
    reference: Reference = None,
) -> Iterator[tuple[Dispatch, dict[str, np.ndarray]]]:
    """Each batch of the split with the model's outputs on it, one batch computed ahead; of ``part``, its rows."""
    several = mesh is not None and mesh.size > 1
    if several:
        sharding.check_divisible(plan.batch_size, 1, mesh, "train.eval_batch_size")
    where = sharding.batch_sharding(mesh) if several else None
    # What a process fetches is what it holds, so outputs of several processes are split as their batch is.
    split = (lambda rows: rows) if part is None else jax.jit(lambda made: made, out_shardings=where)
    encoder = Encoder(task, source, plan, augment=False, rows=None if part is None else part.rows)
    compared = on_devices(reference, mesh)
    waiting: tuple[Dispatch, Any] | None = None
    for item in dispatches(encoder, 0, plan.batches_per_epoch):
        batch = {name: value[0] for name, value in item.batch.items()}
        computed = (item, split(predict(params, model_state, place(batch, where, part), compared)))
        if waiting is not None:
            yield waiting[0], own_rows(waiting[1], part)
        waiting = computed
    if waiting is not None:
        yield waiting[0], own_rows(waiting[1], part)


def evaluate(
    predict: Predict,
    params: Any,
    model_state: Any,
    task: Task,
    source: Source,
    plan: Plan,
    mesh: Mesh | None = None,
    reference: Reference = None,
) -> dict[str, float]:
    """Metric name -> value over all records of the split; each counts once, whatever the batch size and however many
    processes share it."""
    part = None if mesh is None else own_part(mesh, plan.batch_size)
    sums: dict[str, MetricState] = {}
    empty: tuple[dict[str, np.ndarray], Batch] | None = None
    for item, rows in outputs(predict, params, model_state, task, source, plan, mesh, part, reference):
        batch = {name: value[0] for name, value in item.batch.items()}
        if part is not None:  # each row is scored by one process
            rows, batch = ({name: value[part.owned] for name, value in arrays.items()} for arrays in (rows, batch))
        if batch["mask"].any():
            sums = add(sums, task.score(rows, batch, reference))
        else:
            empty = rows, batch
    if not sums and empty is not None:  # a process without records has the metrics' names all the same
        sums = task.score(*empty, reference)
    return {name: state.value() for name, state in hosts.added(sums).items() if not state.absent}


def score_records(
    predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan, reference: Reference = None
) -> Scores:
    """The part of each record of the split in each metric, for intervals and comparisons; in one process."""
    batches = outputs(predict, params, model_state, task, source, plan, reference=reference)
    return joined([_scored(task, item, rows, reference) for item, rows in batches])


def examine(
    predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan, reference: Reference = None
) -> tuple[Scores, dict[str, Artifact]]:
    """The same, and the task's artifacts of the split; in one process."""
    parts: list[Scores] = []
    artifacts: dict[str, Artifact] = {}
    for item, rows in outputs(predict, params, model_state, task, source, plan, reference=reference):
        parts.append(_scored(task, item, rows, reference))
        real = np.asarray(item.batch["mask"][0])
        batch = {name: np.asarray(value[0])[real] for name, value in item.batch.items()}
        unmasked = {name: np.asarray(value)[real] for name, value in rows.items()}
        for title, more in task.artifacts(source[parts[-1].records], unmasked, batch).items():
            artifacts[title] = artifacts[title] + more if title in artifacts else more
    return joined(parts), artifacts


@dataclass(frozen=True)
class Answers:
    """What a model says of a split, in the order of its source.

    Attributes:
        scores: what each record adds to each metric.
        outputs: of `Task.evaluate`, each (n, ...).
        batch: what `Task.score` compares them with, each (n, ...): all of the batch that is no input of the model.
    """

    scores: Scores
    outputs: dict[str, np.ndarray]
    batch: Batch


def collect(
    predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan, reference: Reference = None
) -> Answers:
    """All of a split, kept; of a task whose outputs are of one shape, in one process."""
    encoded = task.codec.encode(source[np.arange(1)])
    inputs = {*encoded, *(f"{name}_mask" for name in encoded)}
    parts: list[Scores] = []
    answered: list[dict[str, np.ndarray]] = []
    wanted: list[dict[str, np.ndarray]] = []
    for item, rows in outputs(predict, params, model_state, task, source, plan, reference=reference):
        parts.append(_scored(task, item, rows, reference))
        real = np.asarray(item.batch["mask"][0])
        answered.append({name: np.asarray(value)[real] for name, value in rows.items()})
        kept = {name: value[0] for name, value in item.batch.items() if name not in inputs}
        wanted.append({name: np.asarray(value)[real] for name, value in kept.items()})
    scores = joined(parts)
    order = np.argsort(scores.records, kind="stable")
    stacked = lambda rows: {name: np.concatenate([part[name] for part in rows])[order] for name in rows[0]}
    return Answers(scores.sorted(), stacked(answered), stacked(wanted))


def _scored(task: Task, item: Dispatch, rows: dict[str, np.ndarray], reference: Reference) -> Scores:
    """Metric states of a batch: of each record, and of the whole for metrics that do not split by record."""
    batch = {name: value[0] for name, value in item.batch.items()}
    indices = item.indices.reshape(-1)
    return by_record(task, rows, batch, indices[indices >= 0], reference)
