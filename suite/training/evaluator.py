"""Evaluator: metrics of a state on the validation split. BestTracker: which evaluation is the best one so far."""

import copy
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from suite.contracts.batch import Batch
from suite.contracts.data import Source
from suite.contracts.metric_meaning import lower_is_better
from suite.contracts.task import Task
from suite.data.pipeline.dispatches import Encoder, Plan, make_plan
from suite.errors import InputError
from suite.evaluation.evaluate import Predict, evaluate, outputs
from suite.evaluation.reference import Reference, reference_arrays
from suite.experiment.sections import Experiment, Train
from suite.parallel.batch_shards import own_part
from suite.training.checkpoint import Progress, Score
from suite.training.logging.jsonl import history


class Evaluator:
    """Evaluates the state on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        predict: Predict,
        embed: Predict,
        mesh: Mesh,
        source: Source,
        folder: Path,
        train_plan: Plan,
    ):
        train = experiment.train
        self.every = train.eval_every or train_plan.batches_per_epoch
        self._predict, self._mesh, self._task, self._source = predict, mesh, experiment.task, source
        size, cache = train.eval_batch_size or train.batch_size, folder / "assets" / "lengths-validation.npy"
        self._embed, self._reference = embed, experiment.task.reference("validation")
        self._plan = make_plan(experiment.task, source, size, seed=None, buckets=train_plan.all_buckets, cache=cache)

    def __call__(self, weights: Any, model_state: Any) -> dict[str, float]:
        task, reference = self._task, self._arrays(weights, model_state)
        metrics = evaluate(
            self._predict, weights, model_state, task, self._source, self._plan, mesh=self._mesh, reference=reference
        )
        return {f"validation/{name}": value for name, value in metrics.items()}

    def _arrays(self, weights: Any, model_state: Any) -> Reference:
        buckets = self._plan.all_buckets
        return reference_arrays(self._embed, weights, model_state, self._task, self._reference, buckets)

    def outputs(
        self, predict: Predict, weights: Any, model_state: Any
    ) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """What the model says of each batch, and the batch; of several processes, this one's rows."""
        part, reference = own_part(self._mesh, self._plan.batch_size), self._arrays(weights, model_state)
        source, plan, mesh = self._source, self._plan, self._mesh
        for item, rows in outputs(predict, weights, model_state, self._task, source, plan, mesh, part, reference):
            batch = {name: np.asarray(value[0]) for name, value in item.batch.items()}
            owned = slice(None) if part is None else part.owned
            yield {name: row[owned] for name, row in rows.items()}, {name: row[owned] for name, row in batch.items()}

    def of(self, task: Task, predict: Predict) -> "Evaluator":
        """The same evaluation, scored by another state of the task."""
        same = copy.copy(self)
        same._task, same._predict = task, predict
        return same

    def forms(self, most: int) -> Iterator[Batch]:
        """Zeros in place of a batch (b, ...) of each shape among the first ``most``; none where a reference enters."""
        if self._reference is not None:
            return
        encoder = Encoder(self._task, self._source, self._plan, augment=False)
        for batch in encoder.forms((i, 1) for i in range(min(self._plan.batches_per_epoch, most))):
            yield {name: value[0] for name, value in batch.items()}

    def names(self, weights: Any, model_state: Any) -> tuple[str, ...]:
        """Names of the metrics, before anything is computed; empty where they cannot be told.

        The first batch is encoded and the model traced on it, which its first evaluation has not to do again; the
        metrics are those of outputs that are all 0.

        Args:
            weights, model_state: their shapes.
        """
        if self._reference is not None:
            return ()
        task = self._task
        encoder = Encoder(task, self._source, self._plan, augment=False)
        batch = {name: value[0] for name, value in encoder((0, 1))["batch"].items()}
        if self._mesh.size == 1:  # as training holds them there: else they would be traced once more
            weights, model_state = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (weights, model_state)
            )
        outputs = jax.eval_shape(self._predict, weights, model_state, batch, None)
        zeros = {name: np.zeros(out.shape, out.dtype) for name, out in outputs.items()}
        try:
            return tuple(task.score(zeros, batch, None))
        except Exception:  # a task of one's own may not be able to score what no model said
            return ()


class BestTracker:
    """Keeps count of the best evaluation, and of how many since were no better.

    Of equal scores the one with the lower validation loss is the best, then the earlier one.

    Args:
        train: whose ``best`` names the selection metric, and whose ``patience`` says when to stop.
    """

    def __init__(self, train: Train):
        self._metric = train.best.removeprefix("-")
        self._sign = -1.0 if lower_is_better(train.best) else 1.0
        self._patience = train.patience

    def score(self, metrics: dict[str, float]) -> Score | None:
        """The selection metric, higher is better, and the loss; without a metric, the latest evaluation is the best.
        None where the metric is not a number, as an AUC of a single class.

        Raises:
            InputError: there is no such metric.
        """
        if not self._metric:
            return Score(time.time())
        loss = metrics.get("validation/loss", math.nan)
        name = f"validation/{self._metric}"
        if name not in metrics:
            raise InputError(
                "field train.best",
                f'"{self._metric}" is no metric of this task.',
                found=", ".join(n.removeprefix("validation/") for n in metrics),
            )
        if math.isnan(metrics[name]):
            return None
        return Score(self._sign * metrics[name], loss if math.isfinite(loss) else None)

    def track(self, progress: Progress, score: Score, step: int) -> Progress:
        """With this evaluation counted. Only a higher score resets the patience, not the lower loss of an equal one."""
        best = (-math.inf, 0.0) if progress.best is None else (progress.best, _descending(progress.best_loss))
        higher = progress.best is None or score.value > progress.best
        waited = 0 if higher else progress.since_best + 1
        if not higher and (score.value, _descending(score.loss)) <= best:
            return dataclasses.replace(progress, since_best=waited)
        return dataclasses.replace(progress, best=score.value, best_step=step, best_loss=score.loss, since_best=waited)

    def out_of_patience(self, progress: Progress) -> bool:
        """Whether too many evaluations have been no better."""
        return 0 < self._patience <= progress.since_best


def _descending(loss: float | None) -> float:
    return -math.inf if loss is None else -loss


def best_metrics(folder: Path, progress: Progress) -> dict[str, float]:
    """The validation metrics logged at the best step."""
    table = history(folder)
    rows = [i for i, step in enumerate(table.get("step", [])) if step == progress.best_step]
    metrics = {name: column[i] for i in rows for name, column in table.items() if name.startswith("validation/")}
    return {name: value for name, value in metrics.items() if value is not None} if rows else {}
