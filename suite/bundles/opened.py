"""An opened program of a bundle: requests are encoded, padded, computed and decoded."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from suite.bundles.answering import BATCH, answer, answer_each, worded
from suite.bundles.manifest import SEED, Signature
from suite.bundles.programs import Call
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Codec
from suite.contracts.kinds import input_kind
from suite.data.pipeline.padding import Seed, bucket, count, pad
from suite.errors import InputError

RUNS = 6
"""Runs of a batch by which it is timed, at most, of which the first compiles."""
MEASURED_SECONDS = 0.1
"""Beyond which no further run is timed."""


@dataclass(frozen=True)
class Program:
    """A program of an opened bundle.

    Attributes:
        name: in the bundle.
        codec: what a request becomes, and what becomes of the answer.
        signature: what it takes and gives.
        calls: a padded length -> the function for it, rising; of the length 0 where rows are of one shape.
        arrays: the weights by name, and the reference arrays by name where the bundle has any; on the device, shared
            with the other programs.
        models: a padded length -> the program as a model in ONNX, or 0 -> one for all lengths; where the bundle has
            any, until an engine was chosen.
        engine: what computes it.
    """

    name: str
    codec: Codec
    signature: Signature
    calls: dict[int, Call]
    arrays: tuple[dict[str, Any], ...]
    models: dict[int, bytes] = field(default_factory=dict, repr=False)
    engine: str = "xla"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Padded lengths, rising; (0,) where rows are of one shape."""
        return tuple(self.calls)

    @property
    def samples(self) -> bool:
        """Whether answers are drawn, by the seeds of the rows."""
        return SEED in self.signature.inputs

    def predict(self, inputs: Sequence[Any] | Columns, seed: Seed = 0) -> list[dict[str, Any]]:
        """One answer a record, see `suite.bundles.bundle.Bundle.predict`."""
        return answer(self.codec, self._answered, inputs, seed)

    def predict_each(
        self, columns: Columns, seed: Seed = 0, batch_size: int = BATCH, *, every: bool = True
    ) -> list[dict[str, Any] | InputError]:
        """As `predict`, but a record that cannot be answered gets its error: `suite.bundles.answering.answer_each`."""
        return answer_each(self.codec, self._answered, columns, seed, batch_size, every)

    def _answered(self, rows: dict[str, Any], size: int, seeds: np.ndarray) -> Mapping[str, np.ndarray]:
        return self.outputs(rows, self.bucket(rows), size, seeds)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """The rows of a request from elsewhere: as `Codec.encode`, but no file of this machine is read for it.

        Raises:
            InputError: a column is missing, a value cannot be read, or names a file.
        """
        for entry in self.codec.inputs:
            values = columns.get(entry.name, ()) if input_kind(entry.kind).file else ()
            if any(isinstance(value, str | Path) for value in values):
                raise InputError(
                    f'input "{entry.name}"',
                    "must be the content of a file, and not its name.",
                    found="a text",
                    fix="bytes",
                )
        return self.codec.encode(columns)

    def rows_of(self, columns: Columns) -> np.ndarray | None:
        """See `Codec.rows_of`."""
        return self.codec.rows_of(columns)

    def bucket(self, rows: Mapping[str, Any]) -> int:
        """The least length that is compiled and holds the rows, along the default axis.

        Raises:
            InputError: they are longer than any, or than the one length that another axis has.
        """
        return self.padded_lengths(rows)[""]

    def padded_lengths(self, rows: Mapping[str, Any]) -> dict[str, int]:
        """The length that the rows are padded to along each axis: of the default one `bucket`, of another the only one
        that the program has.

        Raises:
            InputError: rows are longer.
        """
        known = {"": self.lengths, **{axis: (length,) for axis, length in self._others(rows).items()}}
        lengths = {axis: bucket(rows, fitting, axis) for axis, fitting in known.items()}
        for axis, length in lengths.items():
            if length not in known[axis]:
                raise InputError(
                    f'input "{axis or self.codec.primary}"',
                    "is longer than the model takes.",
                    found=str(length),
                    fix=f"at most {known[axis][-1]}",
                )
        return lengths

    def _others(self, rows: Mapping[str, Any]) -> dict[str, int]:
        """Axis -> the length that its rows have in every program, of all axes but the default one."""
        named = {
            name: value for name, value in rows.items() if isinstance(value, Ragged) and value.axis and not value.to
        }
        return {value.axis: int(self.signature.inputs[name].shape[1] or 0) for name, value in named.items()}

    def outputs(self, rows: dict[str, Any], length: int, size: int = 0, seed: Seed = 0) -> dict[str, np.ndarray]:
        """What the model says of encoded rows, each array (n, ...).

        Args:
            rows: n of them, see `encode`.
            length: that they are padded to along the default axis, see `bucket`.
            size: rows that their batch is filled up to, so that few sizes are compiled; 0: n.
            seed: what each row's random numbers come from, see `suite.data.pipeline.padding.row_seeds`.
        """
        real = np.arange(max(size, count(rows))) < count(rows)
        batch = pad(rows, real, {"": length, **self._others(rows)}, seed)
        taken = {name: batch[name] for name in self.signature.inputs}
        outputs = jax.device_get(self._call(length, taken))
        return {name: np.asarray(value)[real] for name, value in outputs.items()}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns, every: bool = False) -> list[dict[str, Any]]:
        """One answer a row, see `Codec.decode`; with ``every``, see `Codec.decode_all`."""
        return list(worded(self.codec.decode_all if every else self.codec.decode, outputs, columns))

    def computed(self, length: int, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The program's outputs on a batch as its signature says, nothing left out."""
        return {name: np.asarray(value) for name, value in self._call(length, batch).items()}

    def _call(self, length: int, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self.calls[length](self.arrays[0], batch, *self.arrays[1:])

    def warm(self, sizes: Sequence[int], begun: Callable[[], None] = lambda: None) -> dict[tuple[int, int], float]:
        """Compiles the program for all lengths, and batches of each of ``sizes`` rows, and runs it.

        Args:
            sizes: rows of a batch.
            begun: called before each of the ``len(lengths) * len(sizes)`` compilations.

        Returns:
            (length, size) -> the seconds that such a batch takes.
        """
        seconds = {}
        for length in self.lengths:
            for size in sizes:
                begun()
                seconds[length, size] = self._seconds(length, size)
        return seconds

    def _seconds(self, length: int, size: int) -> float:
        """Of a run, after one that compiles; the least of some, since other work on the machine only adds to one."""
        taken: list[float] = []
        while len(taken) < 2 or (len(taken) < RUNS and sum(taken[1:]) < MEASURED_SECONDS):
            begun = time.perf_counter()
            jax.block_until_ready(self._call(length, self._blank(length, size)))
            taken.append(time.perf_counter() - begun)
        return min(taken[1:])

    def _blank(self, length: int, size: int) -> dict[str, np.ndarray]:
        return {name: np.ones(array.sized(size, length), array.dtype) for name, array in self.signature.inputs.items()}
