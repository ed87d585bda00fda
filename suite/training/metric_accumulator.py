"""Metric accumulator: metric states since the last log line, by dispatch, and the dispatches that were not finite."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from suite.contracts.metric import MetricState
from suite.data.pipeline.dispatches import Dispatch

SHOWN = 20
"""Examples named in a message."""


@dataclass(frozen=True)
class Part:
    """One dispatch: its first step, its record indices (steps, b) and the tallies that the step gave."""

    first: int
    indices: np.ndarray
    tallies: Mapping[str, MetricState]


class Interval:
    """Sums of tallies. They stay on the device until they are asked for, as reading them waits for it.

    ``carried``: see the property; the sums that a checkpoint within an interval holds.
    """

    def __init__(self, carried: Mapping[str, Any] | None = None):
        self._sums = {name: MetricState(*map(_as_saved, parts)) for name, parts in (carried or {}).items()}
        self._parts: list[Part] = []
        self._bad: tuple[Part, float] | None = None

    def add(self, item: Dispatch, tallies: Mapping[str, MetricState]) -> None:
        """The tallies of one dispatch."""
        self._parts.append(Part(item.first, item.indices, tallies))

    def totals(self) -> dict[str, MetricState]:
        """The sums so far, in the order of the steps whenever they are asked for."""
        fetched = jax.device_get([part.tallies for part in self._parts])
        for part, tallies in zip(self._parts, fetched, strict=True):
            loss = tallies["loss"]
            if self._bad is None and not np.isfinite(loss.total).all():
                self._bad = part, loss.value()
            self._sums = {
                name: self._sums[name] + tally if name in self._sums else tally for name, tally in tallies.items()
            }
        self._parts = []
        return self._sums

    def clear(self) -> None:
        """Begin anew, as a line was logged."""
        self._sums, self._parts = {}, []

    @property
    def carried(self) -> dict[str, list[Any]]:
        """The sums as JSON: what a run that goes on from this step logs next is then what it would have logged."""
        return {
            name: [np.asarray(tally.total).tolist(), np.asarray(tally.count).tolist()]
            for name, tally in self.totals().items()
        }

    @property
    def fault(self) -> str:
        """Where the loss was first no number, and the examples of that dispatch; empty where it always was one.

        Of what ``totals`` has read.
        """
        if self._bad is None:
            return ""
        part, value = self._bad
        last = part.first + len(part.indices)
        steps = f"step {last}" if len(part.indices) == 1 else f"one of the steps {part.first + 1} to {last}"
        value = math.nan if np.isnan(value) else value
        return f"the loss is {value} at {steps}.\n  examples: {_listed(part.indices[part.indices >= 0].tolist())}"


def _listed(ids: Iterable[int]) -> str:
    ids = list(ids)
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more


def _as_saved(value: Any) -> np.ndarray:
    """Floats are float32, as on the device, so that a sum goes on as it was."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
