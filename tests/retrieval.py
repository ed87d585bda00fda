"""A task with a reference pass, of no domain: which item of a catalogue a row of digits is a bad copy of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.evaluation.losses import cross_entropy, masked_mean, tally
from suite.experiment.sections import Experiment, Optim, Pipeline, Train
from tests.toy import Config


class Catalogue(Source):
    """Items of 1 to 12 digits, no two of the same counts, short and long ones in turn."""

    def __init__(self, items: int):
        rng, seen = np.random.default_rng(7), {}
        while len(seen) < items:
            row = np.sort(rng.integers(0, 4, rng.integers(1, 13)))
            seen.setdefault(tuple(row.tolist()), row)
        self.rows = list(seen.values())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> dict[str, str]:
        return {"digits": "int"}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {"digits": [self.rows[i] for i in indices]}


class Queries(Source):
    """Shuffled copies of items, in which a digit may be another, and which item each is a copy of."""

    def __init__(self, catalogue: Catalogue, n: int, seed: int):
        rng = np.random.default_rng(seed)
        self.items = rng.integers(0, len(catalogue), n)
        self.rows = [rng.permutation(catalogue.rows[i]) for i in self.items]
        for row in self.rows:
            row[0] = rng.integers(0, 4)
        self.catalogue = catalogue

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> dict[str, str]:
        return {"digits": "int", "item": "int", "copied": "int"}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        items = self.items[indices]
        copied = [self.catalogue.rows[i] for i in items]
        return {"digits": [self.rows[i] for i in indices], "item": items, "copied": copied}


@dataclass(frozen=True, kw_only=True)
class Copies(Data):
    """Copies of items of one catalogue."""

    items: int = 21
    """Items of the catalogue; no multiple of a batch."""

    def open(self, split: str) -> Source:
        sizes = {"train": 100, "validation": 37, "test": 45}
        return Queries(Catalogue(self.items), sizes[split], sorted(sizes).index(split))


@dataclass(frozen=True, kw_only=True)
class Nearest(Codec):
    """Lists of digits in, the nearest item out."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name="digits", kind="list", description="1 to 12 digits from 0 to 3", example=[1, 2]),)

    @property
    def longest(self) -> int:
        return 12

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="item", kind="number", whole=True),)

    def encode(self, columns: Columns) -> dict[str, Any]:
        return {"digits": ragged(columns["digits"])}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"item": int(item)} for item in outputs["nearest"]]


def ragged(rows: Sequence[Any]) -> Ragged:
    values = [np.asarray(row, np.int32) for row in rows]
    return Ragged(np.concatenate(values), np.array([len(row) for row in values]))


@dataclass(frozen=True)
class Distance(MetricState):
    """How far the mean vector of queries lies from that of the catalogue: of one query it says nothing.

    Attributes:
        total: ``{"vectors": (d,)}``, the sum over queries.
        centre: (d,) the mean over the catalogue.
    """

    by_record: ClassVar[bool] = False

    centre: Any = None

    def __add__(self, other: MetricState) -> "Distance":
        total = {"vectors": self.total["vectors"] + other.total["vectors"]}
        return Distance(total, self.count + other.count, self.centre)

    def value(self) -> float:
        return float(np.linalg.norm(self.total["vectors"] / self.count - self.centre))


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """Queries and items are embedded by one model; the item with the nearest vector is found."""

    data: Copies = Copies()
    """Queries, and the catalogue they are found in."""

    @property
    def codec(self) -> Nearest:
        return Nearest()

    def source(self, split: str) -> Source:
        return self.data.open(split)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        encoded = self.codec.encode(columns)
        if "item" in columns:
            encoded |= {"item": np.asarray(columns["item"], np.int32), "copied": ragged(columns["copied"])}
        return encoded

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        queries = model(batch["digits"], batch["digits_mask"], rngs=rngs)
        items = model(batch["copied"], batch["copied_mask"], rngs=rngs)
        apart = jnp.square(queries - items).sum(-1)
        spread = cross_entropy(queries, batch["item"] % 2)
        return masked_mean(apart + spread, batch["mask"]), {"loss": tally(apart + spread, batch["mask"])}

    def reference(self, split: str) -> Source:
        return Catalogue(self.data.items)

    @property
    def catalogue(self) -> Nearest:
        return self.codec

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"vector": model(batch["digits"], batch["digits_mask"]), "record": batch["seed"]}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """How far each query lies from each item, (b, n)."""
        vectors = model(batch["digits"], batch["digits_mask"])
        return {"vector": vectors, "distances": _distances(vectors, reference)}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        vectors = model(batch["digits"], batch["digits_mask"])
        return {"nearest": _distances(vectors, reference).argmin(-1)}

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        distances, items = np.asarray(outputs["distances"])[mask], np.asarray(batch["item"])[mask]
        ranks = (distances < np.take_along_axis(distances, items[:, None], 1)).sum(1)
        vectors = np.asarray(outputs["vector"], np.float64)[mask]
        return {
            "recall": MetricState(float((ranks == 0).sum()), len(items)),
            "rank": MetricState(float(ranks.sum()), len(items)),
            "distance": Distance({"vectors": vectors.sum(0)}, len(items), np.float64(reference["vector"]).mean(0)),
        }


def _distances(vectors: jax.Array, reference: Mapping[str, jax.Array] | None) -> jax.Array:
    return jnp.abs(vectors[:, None] - reference["vector"]).sum(-1)


def experiment(**train: Any) -> Experiment:
    """100 rows, batches of 16; queries and items in two buckets."""
    defaults = {"steps": 12, "batch_size": 16, "log_every": 4, "eval_every": 4, "best": "recall"}
    return Experiment(
        name="toy.retrieval",
        task=Retrieval(),
        model=Config(dropout=0.0),
        optim=Optim(learning_rate=1e-2),
        train=Train(**{**defaults, **train}),
        pipeline=Pipeline(buckets=(6, 12)),
    )
