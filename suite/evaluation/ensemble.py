"""Ensemble: several trained models of one problem as one task, whose answer is the weighted mean of theirs.

Weights come from a greedy selection on validation (Caruana et al., 2004, doi 10.1145/1015330.1015432).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.ensemble import EnsembleCodec, named
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.preprocessor import Conclusion
from suite.contracts.task import Task


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model of the ensemble."""

    part: str
    """Part of the composite model."""
    task: str
    """Name of the task that it was trained for."""
    weight: float
    """Share in the mean; those of all members add up to 1."""


@dataclass(frozen=True, kw_only=True)
class Ensemble(Task):
    """Models that share a composite model, each under the name of its part.

    Models that were trained for equal tasks share one, so that a record is encoded once for all of them. What is right
    and what is measured is as the first task says it.
    """

    data: Data
    """Where the records come from."""
    tasks: Mapping[str, Task]
    """Tasks by name; no name is the beginning of another one and an underscore."""
    members: tuple[Member, ...]
    """The models."""

    @property
    def first(self) -> Task:
        """The task that scores and answers."""
        return replace(self.tasks[self._first], data=self.data)  # type: ignore[type-var]

    @property
    def _first(self) -> str:
        return next(iter(self.tasks))

    @property
    def codec(self) -> EnsembleCodec:
        return EnsembleCodec(codecs={name: task.codec for name, task in self.tasks.items()})

    @property
    def split_data(self) -> Data:
        return self.first.split_data

    def source(self, split: str) -> Source:
        return self.first.source(split)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        return self.first.remarks(splits)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        return named({name: task.encode(columns, rng) for name, task in self.tasks.items()})

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        """The members' mean loss: each learns by itself. What is logged is the first member's."""
        losses = [
            self.tasks[member.task].loss(getattr(model, member.part), self.of(member.task, batch), rngs)
            for member in self.members
        ]
        return sum(loss for loss, _ in losses) / len(losses), losses[0][1]  # type: ignore[return-value]

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self._averaged("predict", model, batch)

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return self._averaged("evaluate", model, batch)

    def of_first(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Encoded rows as the first task knows them."""
        return self.of(self._first, dict(rows))

    def _averaged(self, method: str, model: Any, batch: Batch) -> dict[str, jax.Array]:
        outputs = [
            getattr(self.tasks[member.task], method)(getattr(model, member.part), self.of(member.task, batch))
            for member in self.members
        ]
        return self.first.averaged(outputs, [member.weight for member in self.members])

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        return self.first.score(outputs, self.of(self._first, batch))

    def baselines(self) -> Mapping[str, Baseline]:
        return {name: _OfTask(self, own) for name, own in self.first.baselines().items()}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        return self.first.artifacts(columns, outputs, self.of(self._first, batch))

    def conclude(self, evaluated: Iterable[tuple[Mapping[str, np.ndarray], Batch]]) -> Mapping[str, Conclusion]:
        return self.named(self.first.conclude((outputs, self.of(self._first, batch)) for outputs, batch in evaluated))

    def named(self, learnt: Mapping[str, Conclusion]) -> dict[str, Conclusion]:
        """What the first task has learnt, by the fields of this one."""
        return {f"tasks.{self._first}.{name}": conclusion for name, conclusion in learnt.items()}

    def of(self, task: str, batch: Batch) -> Batch:
        """The batch as a task knows it."""
        own = {key.removeprefix(f"{task}_"): value for key, value in batch.items() if key.startswith(f"{task}_")}
        return {**own, **{key: batch[key] for key in ("mask", "seed") if key in batch}}


class _OfTask(Baseline):
    """A baseline of the first task, given its own rows."""

    def __init__(self, ensemble: Ensemble, own: Baseline):
        self._ensemble, self._own, self.most = ensemble, own, own.most

    def add(self, columns: Columns, rows: Rows) -> None:
        self._own.add(columns, self._ensemble.of_first(rows))

    def fit(self) -> str:
        return self._own.fit()

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        return self._own.outputs(columns, self._ensemble.of_first(rows))
