"""A task that predicts a column from two columns of numbers, for tests of what all problems share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.codecs.prediction import Predictions
from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Input
from suite.contracts.data import Source
from suite.data.preprocessing.columns import origin, require
from suite.data.preprocessing.target import Target
from suite.data.sources.datasets import Table
from suite.evaluation.artifacts import Given
from suite.evaluation.prediction import Prediction
from suite.experiment.sections import Experiment, Optim, Train
from suite.models import dnn

RECORDS = 240


@dataclass(frozen=True, kw_only=True)
class Pairs(Predictions):
    """Two numbers in."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input(name=name, kind="number", example=0.5) for name in ("a", "b"))

    def encode(self, columns: Columns) -> dict[str, Any]:
        return {"x": np.stack([np.asarray(columns[name], np.float32) for name in ("a", "b")], 1)}


@dataclass(frozen=True, kw_only=True)
class FromPairs(Prediction):
    """Any problem, of two numbers."""

    @property
    def codec(self) -> Pairs:
        return Pairs(**self.answering)

    def source(self, split: str) -> Source:
        source = self.opened(self.data, split)
        require(source, {"target": self.target}, origin(self.data))
        return source

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        return {**self.codec.encode(columns), **self.encoded_target(columns, rng)}

    def logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        return model(batch["x"], rngs=rngs)

    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        return lambda i: {name: f"{columns[name][i]:g}" for name in ("a", "b")}


def table(path: Any) -> Any:
    """A table with a column of each problem, which a and b decide: price, spam, kind, size, tags."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, RECORDS))
    lines = ["a,b,price,spam,kind,size,tags"]
    for x, y in zip(a, b, strict=True):
        kind = ("red", "green", "blue")[int(np.argmax([x, y, -x - y]))]
        size = ("small", "medium", "large")[int(x > -0.5) + int(x > 0.5)]
        tags = "|".join(name for name, held in (("up", x > 0), ("left", y > 0), ("far", abs(x) > 1)) if held) or "none"
        lines.append(f"{x:.4f},{y:.4f},{100 + 20 * x - 5 * y:.2f},{'yes' if x + y > 1 else 'no'},{kind},{size},{tags}")
    path.write_text("\n".join(lines) + "\n")
    return path


PROBLEMS = {"price": "number", "spam": "binary", "kind": "classes", "size": "ordered", "tags": "labels"}
"""Column -> problem."""


def task(path: Any, target: str, **fields: Any) -> FromPairs:
    """Of a column of ``table``, not fitted."""
    order = ("small", "medium", "large") if target == "size" else ()
    return FromPairs(data=Table(path=str(path)), target=target, answer=Target(order=order), **fields)


def experiment(path: Any, target: str, **train: Any) -> Experiment:
    """A second of training."""
    return Experiment(
        name="predicting",
        task=task(path, target),
        model=dnn.Config(inputs=2, hidden=(16,)),
        optim=Optim(learning_rate=0.03, warmup_steps=5),
        train=Train(**{"epochs": 8, "batch_size": 16, "log_every": 20, "best": "loss", **train}),
    )
