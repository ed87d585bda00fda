"""A complete task in one file: a number predicted from numbers, such as a price from sizes and ages.

command:  suite train docs/examples/regression.py --task.data.path houses.csv --task.target price
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require
from suite.data.sources.files import Table
from suite.evaluation.losses import masked_mean, tally
from suite.experiment.sections import Experiment, Optim, Train
from suite.models import dnn


@dataclass(frozen=True, kw_only=True)
class Numbers(Codec):
    """Columns of numbers in, one number out. Serving loads this class and nothing of the task."""

    columns: tuple[str, ...]
    target: str

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input(name=name, kind="number", example=1.0) for name in self.columns)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name=self.target, kind="number"),)

    def encode(self, columns: Columns) -> dict[str, Any]:
        return {"x": np.stack([np.asarray(columns[name], np.float32) for name in self.columns], axis=1)}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{self.target: float(y)} for y in outputs["y"]]


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Least squares. Dims: b rows."""

    data: Data
    """Where the records come from."""
    columns: tuple[str, ...] = ("size", "age")
    """Columns of numbers that the target is predicted from."""
    target: str = "price"
    """Column of the number to predict."""

    @property
    def codec(self) -> Numbers:
        return Numbers(columns=self.columns, target=self.target)

    def source(self, split: str) -> Source:
        source = self.data.open(split)
        require(source, {"target": self.target, **{name: name for name in self.columns}}, origin(self.data))
        return source

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        encoded = self.codec.encode(columns)
        if self.target in columns:  # a request has none
            encoded["y"] = np.asarray(columns[self.target], np.float32)
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        errors = (model(batch["x"], rngs=rngs)[:, 0] - batch["y"]) ** 2
        return masked_mean(errors, batch["mask"]), {"loss": tally(errors, batch["mask"])}

    def predict(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        return {"y": model(batch["x"])[:, 0]}

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Any = None) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        errors = np.asarray(outputs["y"], np.float64)[mask] - np.asarray(batch["y"], np.float64)[mask]
        return {"mse": MetricState((errors**2).sum(), len(errors)), "mae": MetricState(abs(errors).sum(), len(errors))}


def experiment() -> Experiment:
    return Experiment(
        name="docs.regression",
        task=Regression(data=Table(path="houses.csv")),
        model=dnn.Config(inputs=2, hidden=(32,), outputs=1),
        optim=Optim(learning_rate=1e-2, warmup_steps=20),
        train=Train(epochs=20, batch_size=32, best="-mae"),
    )
