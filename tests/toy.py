"""A task outside the suite's packages, of no domain: ragged integer rows whose sum is odd or even. For tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.answers import class_answers, class_outputs
from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.model import ModelConfig
from suite.contracts.task import Task
from suite.evaluation.losses import cross_entropy, masked_mean, tally
from suite.evaluation.metrics.classification import classification_scores
from suite.experiment.sections import Experiment, Optim, Pipeline, Train
from suite.nn import Dropout, Linear


class Rows(Source):
    """``n`` rows of 1 to 12 digits, made by a seed."""

    def __init__(self, n: int, seed: int):
        rng = np.random.default_rng(seed)
        self.rows = [rng.integers(0, 4, rng.integers(1, 13)) for _ in range(n)]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> dict[str, str]:
        return {"digits": "int", "label": "int"}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        picked = [self.rows[i] for i in indices]
        return {"digits": picked, "label": np.array([row.sum() % 2 for row in picked])}


@dataclass(frozen=True, kw_only=True)
class MadeRows(Data):
    """Rows by split; validation and test have 57 each."""

    examples: int = 200
    """Training rows."""

    def open(self, split: str) -> Source:
        return Rows(self.examples if split == "train" else 57, {"train": 0, "validation": 1, "test": 2}[split])


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig):
    """Embeds counts of digits; enough to be trained and to have dropout."""

    width: int = 16
    """Hidden width."""
    dropout: float = 0.1
    """Share of the hidden values that training drops."""

    def build(self, *, rngs: nnx.Rngs) -> "Net":
        return Net(self, rngs=rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return ()


class Net(nnx.Module):
    """Counts of each digit -> two logits."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.hidden = Linear(4, config.width, rngs=rngs)
        self.head = Linear(config.width, 2, rngs=rngs)
        self.dropout = Dropout(config.dropout)

    def __call__(self, digits: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        counts = (jax.nn.one_hot(digits, 4) * mask[..., None]).sum(1)
        return self.head(self.dropout(jnp.sin(self.hidden(counts)), rngs))


@dataclass(frozen=True, kw_only=True)
class Digits(Codec):
    """Lists of digits in, odd or even out."""

    digits: str = "digits"
    """Name of the input."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name=self.digits, kind="list", description="1 to 12 digits from 0 to 3", example=[1, 2]),)

    @property
    def longest(self) -> int:
        return 12

    @property
    def outputs(self) -> tuple[Output, ...]:
        return class_outputs(["even", "odd"])

    def encode(self, columns: Columns) -> dict[str, Any]:
        rows = [np.asarray(row, np.int32) for row in columns[self.digits]]
        return {"digits": Ragged(np.concatenate(rows), np.array([len(row) for row in rows]))}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return class_answers(outputs["logits"], ["even", "odd"])


@dataclass(frozen=True, kw_only=True)
class Parity(Task):
    """Odd or even, from digits; training drops a digit's order by shuffling (harmless augmentation)."""

    digits: str = "digits"
    """Name of the column."""
    examples: int = 200
    """Training rows."""

    @property
    def data(self) -> "MadeRows":  # type: ignore[override]  # made of a field of the task
        return MadeRows(examples=self.examples)

    @property
    def codec(self) -> Digits:
        return Digits(digits=self.digits)

    def source(self, split: str) -> Source:
        return self.data.open(split)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        if rng is not None:
            columns = {**columns, self.digits: [rng.permutation(row) for row in columns[self.digits]]}
        encoded = self.codec.encode(columns)
        if "label" in columns:
            encoded["label"] = np.asarray(columns["label"], np.int32)
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        losses = cross_entropy(model(batch["digits"], batch["digits_mask"], rngs=rngs), batch["label"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"logits": model(batch["digits"], batch["digits_mask"])}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        return classification_scores(outputs, batch)


def experiment(**train: Any) -> Experiment:
    """200 rows, batches of 16 in two buckets: 13 steps an epoch, the last batches short."""
    defaults = {"steps": 40, "batch_size": 16, "log_every": 5, "ema": 0.9, "eval_every": 10}
    return Experiment(
        name="toy.parity",
        task=Parity(),
        model=Config(),
        optim=Optim(learning_rate=1e-2, warmup_steps=3, weight_decay=0.01, clip_norm=1.0),
        train=Train(**{**defaults, **train}),
        pipeline=Pipeline(buckets=(6, 12)),
    )
