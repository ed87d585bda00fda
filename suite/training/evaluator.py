"""Evaluator: metrics of a state on the validation split. BestTracker: which evaluation is the best one so far."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from suite.contracts.data import Source
from suite.contracts.metric_meaning import lower_is_better
from suite.data.pipeline.dispatches import Plan, make_plan
from suite.errors import InputError
from suite.evaluation.evaluate import Predict, evaluate
from suite.evaluation.reference import reference_arrays
from suite.experiment.sections import Experiment, Train
from suite.training.checkpoint import Progress
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
        task, buckets = self._task, self._plan.all_buckets
        reference = reference_arrays(self._embed, weights, model_state, task, self._reference, buckets)
        metrics = evaluate(
            self._predict, weights, model_state, task, self._source, self._plan, mesh=self._mesh, reference=reference
        )
        return {f"validation/{name}": value for name, value in metrics.items()}


class BestTracker:
    """Keeps count of the best evaluation, and of how many since were no better.

    Args:
        train: whose ``best`` names the selection metric, and whose ``patience`` says when to stop.
    """

    def __init__(self, train: Train):
        self._metric = train.best.removeprefix("-")
        self._sign = -1.0 if lower_is_better(train.best) else 1.0
        self._patience = train.patience

    def score(self, metrics: dict[str, float]) -> float:
        """The selection metric, higher is better; without one, every evaluation is the best so far."""
        if not self._metric:
            return time.time()
        name = f"validation/{self._metric}"
        if name not in metrics:
            raise InputError(
                "field train.best",
                f'"{self._metric}" is no metric of this task.',
                found=", ".join(n.removeprefix("validation/") for n in metrics),
            )
        return self._sign * metrics[name]

    def track(self, progress: Progress, score: float, step: int) -> Progress:
        """Of equal scores the later is kept, as Orbax keeps it, but only a higher one resets the patience."""
        if progress.best is None or score > progress.best:
            return dataclasses.replace(progress, best=score, best_step=step, since_best=0)
        best_step = step if score == progress.best else progress.best_step
        return dataclasses.replace(progress, best_step=best_step, since_best=progress.since_best + 1)

    def out_of_patience(self, progress: Progress) -> bool:
        """Whether too many evaluations have been no better."""
        return 0 < self._patience <= progress.since_best


def best_metrics(folder: Path, progress: Progress) -> dict[str, float]:
    """The validation metrics logged at the best step."""
    table = history(folder)
    rows = [i for i, step in enumerate(table.get("step", [])) if step == progress.best_step]
    metrics = {name: column[i] for i in rows for name, column in table.items() if name.startswith("validation/")}
    return {name: value for name, value in metrics.items() if value is not None} if rows else {}
