"""Evaluation of every record once, masked, and answers in the order of the records."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.pipeline.dispatches import Dispatch, Encoder, Plan, dispatches
from suite.evaluation.bootstrap import Scores, by_record, joined
from suite.evaluation.losses import add
from suite.parallel import hosts, sharding
from suite.parallel.batch_shards import Part, own_part, own_rows, place
from suite.parallel.layout import Layout, laid_out

Predict = Callable[[Any, Any, dict[str, Any]], dict[str, jax.Array]]


def make_predict(graph: Any, task: Task, layout: Layout = Layout()) -> Predict:
    """(params, model_state, batch (b, ...)) -> outputs (b, ...), jitted."""
    return make_function(graph, task.evaluate, layout)


def make_function(graph: Any, function: Callable[..., dict[str, jax.Array]], layout: Layout = Layout()) -> Any:
    """(params, model_state, batch (b, ...), reference) -> outputs (b, ...) of a program's function, jitted."""

    def predict(
        params: Any, model_state: Any, batch: dict[str, Any], reference: dict[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        with laid_out(layout):
            return function(nnx.merge(graph, params, model_state), batch, reference)

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
) -> Iterator[tuple[Dispatch, dict[str, np.ndarray]]]:
    """Each batch of the split with the model's outputs on it, one batch computed ahead; of ``part``, its rows."""
    several = mesh is not None and mesh.size > 1
    if several:
        sharding.check_divisible(plan.batch_size, 1, mesh, "train.eval_batch_size")
    where = sharding.batch_sharding(mesh) if several else None
    # What a process fetches is what it holds, so outputs of several processes are split as their batch is.
    split = (lambda made: made) if part is None else jax.jit(lambda made: made, out_shardings=where)
    encoder = Encoder(task, source, plan, augment=False, rows=None if part is None else part.rows)
    waiting: tuple[Dispatch, Any] | None = None
    for item in dispatches(encoder, 0, plan.batches_per_epoch):
        batch = {name: value[0] for name, value in item.batch.items()}
        made = (item, split(predict(params, model_state, place(batch, where, part))))
        if waiting is not None:
            yield waiting[0], own_rows(waiting[1], part)
        waiting = made
    if waiting is not None:
        yield waiting[0], own_rows(waiting[1], part)


def evaluate(
    predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan, mesh: Mesh | None = None
) -> dict[str, float]:
    """Metric name -> value over all records of the split; each counts once, whatever the batch size and however many
    processes share it."""
    part = None if mesh is None else own_part(mesh, plan.batch_size)
    sums: dict[str, MetricState] = {}
    empty: tuple[dict[str, np.ndarray], Batch] | None = None
    for item, made in outputs(predict, params, model_state, task, source, plan, mesh, part):
        batch = {name: value[0] for name, value in item.batch.items()}
        if part is not None:  # each row is scored by one process
            made, batch = ({name: value[part.owned] for name, value in rows.items()} for rows in (made, batch))
        if batch["mask"].any():
            sums = add(sums, task.score(made, batch))
        else:
            empty = made, batch
    if not sums and empty is not None:  # a process without records has the metrics' names all the same
        sums = task.score(*empty)
    return {name: tally.value() for name, tally in hosts.added(sums).items()}


def score_records(predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan) -> Scores:
    """What each record of the split adds to each metric, for intervals and comparisons; in one process."""
    found = outputs(predict, params, model_state, task, source, plan)
    return joined([_scored(task, item, made) for item, made in found])


def examine(
    predict: Predict, params: Any, model_state: Any, task: Task, source: Source, plan: Plan
) -> tuple[Scores, dict[str, Artifact]]:
    """The same, and what the task has to show of the split; in one process."""
    parts, shown = [], dict[str, Artifact]()
    for item, made in outputs(predict, params, model_state, task, source, plan):
        parts.append(_scored(task, item, made))
        real = np.asarray(item.batch["mask"][0])
        batch = {name: np.asarray(value[0])[real] for name, value in item.batch.items()}
        kept = {name: np.asarray(value)[real] for name, value in made.items()}
        for title, more in task.artifacts(source[parts[-1][1]], kept, batch).items():
            shown[title] = shown[title] + more if title in shown else more
    return joined(parts), shown


def _scored(task: Task, item: Dispatch, made: dict[str, np.ndarray]) -> tuple[dict[str, list[MetricState]], np.ndarray]:
    """Metric states of each record of a batch, and the records' numbers."""
    batch = {name: value[0] for name, value in item.batch.items()}
    indices = item.indices.reshape(-1)
    return by_record(task, made, batch), indices[indices >= 0]
