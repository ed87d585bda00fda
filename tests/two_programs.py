"""The toy task with two programs: one calls rows odd or even beside reference rows, the other draws digits after them.

For tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Source
from suite.contracts.task import Program
from suite.decoding.generation import row_keys
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from tests import toy

DRAWN = 8
"""Digits that are drawn for each row."""


@dataclass(frozen=True, kw_only=True)
class Digits(toy.Digits):
    """The toy's, with rows as tables write them, too."""

    def encode(self, columns: Columns) -> dict[str, Any]:
        split = lambda row: row.split("|") if isinstance(row, str) else row
        return super().encode({self.digits: [split(row) for row in columns[self.digits]]})


@dataclass(frozen=True, kw_only=True)
class Drawing(Codec):
    """A row of at most five digits in, more digits out."""

    digits: str = "digits"
    """Name of the input."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name=self.digits, kind="list", description="digits from 0 to 3", example=[3, 2]),)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(name="more", kind="text", description="digits that were drawn"),)

    @property
    def longest(self) -> int:
        return 16

    def encode(self, columns: Columns) -> dict[str, Any]:
        return Digits(digits=self.digits).encode(columns)

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return [{"more": "".join(map(str, row))} for row in outputs["drawn"]]


@dataclass(frozen=True, kw_only=True)
class Two(toy.Parity):
    """Parity beside 70 reference rows; and what could follow a row."""

    @property
    def codec(self) -> Digits:
        return Digits(digits=self.digits)

    def programs(self) -> dict[str, Program]:
        return {"predict": Program(self.predict, self.codec), "draw": Program(self.draw, Drawing(digits=self.digits))}

    def reference(self, split: str) -> Source | None:
        return toy.Rows(70, seed=9)

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": model(batch["digits"], batch["digits_mask"])}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        logits = model(batch["digits"], batch["digits_mask"])
        return {"logits": logits if reference is None else logits - reference["logits"].mean(0)}

    def draw(self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None) -> dict[str, jax.Array]:
        """Digits, the likelier the more often they stand in the row."""
        counts = (jax.nn.one_hot(batch["digits"], 4) * batch["digits_mask"][..., None]).sum(1)
        keys = row_keys(batch["seed"])
        drawn = jax.vmap(lambda key, row: jax.random.categorical(key, jnp.log1p(row), shape=(DRAWN,)))(keys, counts)
        return {"drawn": drawn.astype(jnp.int32)}


def experiment(**train: Any) -> Experiment:
    """As the toy's."""
    return changed(toy.experiment(**train), {"task": Two()})
