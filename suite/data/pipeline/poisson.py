"""Poisson sampling: batches in which every record stands with the same probability, whatever the others do.

It is what the accounting of differential privacy by amplification assumes; shuffled batches of a fixed size are
another mechanism (`Chua et al., 2024 <https://arxiv.org/abs/2403.17673>`_).
"""

import functools
from dataclasses import dataclass

import numpy as np

from suite.data.pipeline.dispatches import Plan
from suite.data.pipeline.padding import fitting


@dataclass(frozen=True, kw_only=True)
class PoissonPlan(Plan):
    """Batches of units, each of which is in a batch with probability ``rate``. A unit is a record, or all records of
    one user, of which a batch holds at most ``per_unit``.

    Rows of a unit lie side by side, ``per_unit`` of them, -1 where it has fewer. ``batch_size`` is the number of rows
    of the largest batch of the run, which is known beforehand: nothing that was drawn is ever left out. ``seed`` is of
    augmentation.

    Attributes:
        expected: units of a batch on average.
        key: what batches are drawn from.
        unit_of: (size,) number of the unit of each record, from 0; None: each record is one.
        per_unit: most records of a unit in a batch.
    """

    expected: int
    key: tuple[int, ...]
    unit_of: np.ndarray | None = None
    per_unit: int = 1

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.size if self.unit_of is None else int(self.unit_of.max()) + 1

    @property
    def rate(self) -> float:
        """Probability that a unit is in a batch."""
        return self.expected / self.units

    @functools.cached_property
    def batches_per_epoch(self) -> int:
        """Batches that hold each unit once on average."""
        return max(round(self.units / self.expected), 1)

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        rng = self._rng(step)
        count = rng.binomial(self.units, self.rate)
        chosen = rng.choice(self.units, count, replace=False, shuffle=False)
        rows = np.full((self.batch_size // self.per_unit, self.per_unit), -1, np.int64)
        if self.unit_of is None:
            rows[:count, 0] = chosen
        else:
            order, starts = self._records
            for place, unit in enumerate(chosen.tolist()):
                own = order[starts[unit] : starts[unit + 1]]
                own = own if len(own) <= self.per_unit else rng.choice(own, self.per_unit, replace=False)
                rows[place, : len(own)] = own
        indices = rows.reshape(-1)
        real = indices[indices >= 0]
        return indices, 0 if self.lengths is None else fitting(self.lengths[real], self.buckets)

    @functools.cached_property
    def _records(self) -> tuple[np.ndarray, np.ndarray]:
        """Records in the order of their units, and where each unit begins."""
        assert self.unit_of is not None
        order = np.argsort(self.unit_of, kind="stable")
        return order, np.concatenate([[0], np.cumsum(np.bincount(self.unit_of, minlength=self.units))])

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng((*self.key, step))


def poisson_plan(
    plan: Plan, steps: int, key: tuple[int, ...], parts: int, unit_of: np.ndarray | None = None, per_unit: int = 1
) -> PoissonPlan:
    """The plan of the same records by Poisson sampling, of ``plan.batch_size`` units a batch on average.

    Args:
        plan: of the records.
        steps: of the whole run.
        key: what batches are drawn from.
        parts: a batch has a multiple of as many units, for devices and micro-batches.
        unit_of, per_unit: see `PoissonPlan`.
    """
    made = PoissonPlan(
        size=plan.size,
        batch_size=0,
        seed=plan.seed,
        lengths=plan.lengths,
        buckets=plan.buckets,
        others=plan.others,
        expected=plan.batch_size,
        key=key,
        unit_of=unit_of,
        per_unit=per_unit if unit_of is not None else 1,
    )
    most = max(int(made._rng(step).binomial(made.units, made.rate)) for step in range(steps))
    object.__setattr__(made, "batch_size", -(-max(most, 1) // parts) * parts * made.per_unit)
    return made
