"""The toy retrieval with items that have names: the three nearest of a catalogue, without those that were seen.

For tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.contracts.batch import Batch, Columns, Ragged
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Source
from suite.errors import InputError
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from tests import retrieval

TOP = 3


class Stock(Source):
    """The toy's items, and what they are called."""

    def __init__(self, items: int):
        self.rows = retrieval.Catalogue(items).rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> dict[str, str]:
        return {"item": "text", "digits": "text"}

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        return {"item": [f"item {i}" for i in indices], "digits": [written(self.rows[i]) for i in indices]}


def written(digits: Sequence[int]) -> str:
    return "".join(map(str, digits))


def read(texts: Sequence[Any]) -> Ragged:
    """Digits of texts."""
    for text in texts:
        if not set(str(text)) <= set("0123") or not text:
            raise InputError('column "digits"', "must be digits from 0 to 3.", found=repr(text))
    return retrieval.ragged([[int(digit) for digit in str(text)] for text in texts])


@dataclass(frozen=True, kw_only=True)
class Item(Codec):
    """An item of the catalogue."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input(name=name, kind="text", example="0123") for name in ("item", "digits"))

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="vector", kind="vector"),)

    @property
    def longest(self) -> int:
        return 12

    def encode(self, columns: Columns) -> dict[str, Any]:
        return {"digits": read(columns["digits"])}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"vector": row.tolist()} for row in outputs["vector"]]


@dataclass(frozen=True, kw_only=True)
class Shelf(Codec):
    """Digits and names of items in, the three nearest items out."""

    names: tuple[str, ...]
    """What the items are called."""

    @property
    def names_catalogue(self) -> bool:
        return True

    def with_catalogue(self, names: Sequence[str], file: Path) -> "Shelf":
        return Shelf(names=tuple(names))

    @property
    def inputs(self) -> tuple[Input, ...]:
        seen = Input(name="seen", kind="list", required=False, example=list(self.names[:1]))
        return (Input(name="digits", kind="text", example="0123"), seen)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="items", kind="ranking"), Output(name="unseen", kind="number", whole=True))

    @property
    def longest(self) -> int:
        return 12

    def encode(self, columns: Columns) -> dict[str, Any]:
        lists = [row or [] for row in columns.get("seen", [[]] * len(columns["digits"]))]
        by_name = {name: place for place, name in enumerate(self.names)}
        places = [[by_name[name] for name in row if name in by_name] for row in lists]
        unseen = np.array([len(row) - len(known) for row, known in zip(lists, places, strict=True)], np.int32)
        lengths = np.array([len(row) for row in places])
        seen = Ragged(np.array([place for row in places for place in row], np.int32), lengths, 8)
        return {"digits": read(columns["digits"]), "seen": seen, "unseen": unseen}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        names = self.names
        pairs = [zip(*row, strict=True) for row in zip(outputs["top"].tolist(), outputs["score"].tolist(), strict=True)]
        ranked = [[{"item": names[place], "score": score} for place, score in row if place >= 0] for row in pairs]
        return [{"items": row, "unseen": int(n)} for row, n in zip(ranked, outputs["unseen"], strict=True)]


@dataclass(frozen=True, kw_only=True)
class Shop(retrieval.Retrieval):
    """The nearest items, by their names."""

    @property
    def codec(self) -> Shelf:  # type: ignore[override]
        return Shelf(names=tuple(f"item {i}" for i in range(self.data.items)))

    @property
    def catalogue(self) -> Item:  # type: ignore[override]
        return Item()

    def reference(self, split: str) -> Source:
        return Stock(self.data.items)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        rows = columns["digits"]
        texts = {**columns, "digits": [row if isinstance(row, str) else written(row) for row in rows]}
        encoded = self.codec.encode(texts)
        if "item" in columns:
            encoded |= {"item": np.asarray(columns["item"], np.int32), "copied": retrieval.ragged(columns["copied"])}
        return encoded

    def source(self, split: str) -> Source:
        return Asked(super().source(split))

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        scores = -retrieval._distances(model(batch["digits"], batch["digits_mask"]), reference)
        rows = jnp.arange(scores.shape[0])[:, None]
        seen = jnp.where(batch["seen_mask"], batch["seen"], scores.shape[1])
        scores = scores.at[rows, seen].set(-jnp.inf, mode="drop")
        best, places = jax.lax.top_k(jnp.pad(scores, ((0, 0), (0, TOP)), constant_values=-jnp.inf), TOP)
        known = jnp.isfinite(best)
        return {"top": jnp.where(known, places, -1), "score": jnp.where(known, best, 0), "unseen": batch["unseen"]}


class Asked(Source):
    """Queries whose digits are texts, as requests have them."""

    def __init__(self, source: Source):
        self.inner = source

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def schema(self) -> dict[str, str]:
        return self.inner.schema

    def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
        columns = self.inner[indices]
        return {**columns, "digits": [written(row) for row in columns["digits"]]}


def experiment(**train: Any) -> Experiment:
    """As the toy's."""
    return changed(retrieval.experiment(**train), {"task": Shop()})
